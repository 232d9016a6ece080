import type { Kill, Killed } from '../control/wire.ts'
import { openClient } from './client.ts'
import { command, jsonOption } from './command.ts'
import { ask, paint } from './io.ts'
import { clientOptions } from './place.ts'
import { sessionsEnded } from './sessions.ts'
import { jsonText, safe } from './text.ts'

export const killCommand = command({
  name: 'kill',
  summary: 'Stops a session, an agent, or all of them, at once',
  takes: ['<target>'],
  options: {
    because: { type: 'string', value: '<text>', says: 'Why; agents and the log are told.' },
    yes: { type: 'boolean', says: 'Asks nothing.' },
    ...jsonOption,
    ...clientOptions,
  },
  notes: [
    'The target is a session (`ses_…`), an agent, or `all`. What runs is cut, nothing new starts, questions to people are',
    'void. An agent, or all, stay stopped, also when the gateway starts again, until `sallyport revive`.',
    'At a terminal it asks before it stops more than a session; elsewhere it does not: a brake has to work.',
  ],
  examples: [
    'sallyport kill ses_8f2c',
    'sallyport kill reader --because "it sends mail to strangers"',
    'sallyport kill all --yes',
  ],
  async run({ words: [target = ''], values }, io) {
    const client = openClient(values, io)
    if (io.isTty && values.yes !== true && !target.startsWith('ses_')) {
      const answer = await ask(
        io,
        `Stop ${target === 'all' ? 'all agents' : `the agent ${safe(target)}`}, until somebody revives? [y/N]`,
      )
      if (!/^y(es)?$/i.test(answer)) {
        io.err('nothing was stopped')
        return 1
      }
    }
    const wanted: Kill = { target, ...(values.because === undefined ? {} : { because: values.because }) }
    const { sessions, took } = await client.post<Killed>('/v1/kill', wanted)
    if (values.json === true) io.out(jsonText({ sessions, took }))
    else {
      io.out(`${paint(io, 'bold', sessionsEnded(sessions))} in ${took} ms`)
      if (!target.startsWith('ses_')) io.out(`${safe(target)} stays stopped until \`sallyport revive ${safe(target)}\``)
    }
    return 0
  },
})

export const reviveCommand = command({
  name: 'revive',
  summary: 'Lets an agent, or all, start sessions again',
  takes: ['<target>'],
  options: { ...jsonOption, ...clientOptions },
  notes: [
    'Takes what `sallyport status` lists as stopped: an agent, `all`, or a key (`key:…`). Ended sessions stay ended.',
  ],
  examples: ['sallyport revive reader', 'sallyport revive all'],
  async run({ words: [target = ''], values }, io) {
    const done = await openClient(values, io).post<{ revived: string }>('/v1/revive', { target })
    io.out(values.json === true ? jsonText(done) : `${safe(done.revived)} may start sessions again`)
    return 0
  },
})
