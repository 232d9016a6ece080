import type { ApprovalView } from '../control/wire.ts'
import { needInWords } from '../core/approval.ts'
import type { Approval } from '../core/approval.ts'
import { Failure } from '../core/failure.ts'
import type { JsonObject } from '../core/json.ts'
import { card, effectStyle } from './card.ts'
import type { Io, Style } from './io.ts'
import { drawn, heading } from './line.ts'
import type { Line } from './line.ts'
import { fit, safe, width } from './text.ts'

/** A key as `node:readline` tells of it. `text` is what it would write. */
export interface Key {
  readonly name: string
  readonly text: string
  readonly ctrl?: boolean
}

export interface Size {
  readonly rows: number
  readonly columns: number
}

/** What the inbox asks of the world. */
export interface InboxPorts {
  view(id: string): Promise<ApprovalView>
  answer(id: string, verdict: 'approve' | 'deny', reason: string | undefined): Promise<Approval>
  /** Sends other arguments: decided anew, and approved by whoever sends them. */
  edit(id: string, args: JsonObject, reason: string | undefined): Promise<Approval>
  /** Lets the person change arguments in their editor. Undefined: nothing was changed. Fails with what is wrong. */
  change(args: JsonObject): Promise<JsonObject | undefined>
  reconnect(): void
  bell(): void
  repaint(): void
  quit(): void
  suspend(): void
}

export interface Inbox {
  key(key: Key): void
  /** A question that is new, or has changed. */
  changed(approval: Approval): void
  /** Everything pending was told; `now` is the clock of the gateway. */
  ready(now: number): void
  link(state: 'connecting' | 'live' | 'lost', because?: string): void
  /** The whole screen, as many lines as it has rows; and where the cursor is, while something is typed. */
  frame(size: Size): {
    readonly lines: readonly string[]
    readonly cursor?: { readonly row: number; readonly column: number }
  }
}

interface Open {
  readonly id: string
  view: ApprovalView | undefined
  edited: JsonObject | undefined
  top: number
  /** Lines that were on screen, and whether the last one was, at these columns. */
  seen: number
  columns: number
  whole: boolean
}

interface Prompt {
  readonly kind: 'approve' | 'deny' | 'edit'
  readonly id: string
  stage: 'word' | 'reason'
  text: string
}

const longestReason = 500

export function createInbox(ports: InboxPorts, io: Pick<Io, 'color'>, clock: () => number): Inbox {
  const pending = new Map<string, Approval>()
  const told = new Set<string>()
  let [isReady, offset, selected, top]: [boolean, number, string | undefined, number] = [false, 0, undefined, 0]
  let open: Open | undefined
  let prompt: Prompt | undefined
  let isHelp = false
  let busy = false
  let notice: readonly [text: string, style: Style] | undefined
  let connection: readonly [state: 'connecting' | 'live' | 'lost', because: string | undefined] = [
    'connecting',
    undefined,
  ]
  let page = 10

  const now = (): number => clock() + offset
  /** Oldest first: a new one comes last, and moves nothing that somebody is about to answer. */
  const listed = (): readonly Approval[] =>
    [...pending.values()].sort((a, b) => a.openedAt - b.openedAt || (a.id < b.id ? -1 : 1))

  const say = (text: string, style: Style = 'reset'): void => {
    notice = [safe(text, { maxLength: 500 }), style]
  }

  /** Does something that takes a while; what goes wrong is said at the bottom. One at a time. */
  function during(work: () => Promise<void>): void {
    if (busy) return
    busy = true
    work()
      .catch((thrown: unknown) => say(Failure.from(thrown).message, 'red'))
      .finally(() => {
        busy = false
        ports.repaint()
      })
  }

  // Questions ---------------------------------------------------------------------------------------------------------

  function changed(approval: Approval): void {
    const { id, state } = approval
    told.add(id)
    if (state === 'pending') {
      if (!pending.has(id) && isReady) ports.bell()
      pending.set(id, approval)
      selected ??= id
      if (open?.id === id && open.view !== undefined) open.view = { ...open.view, approval }
    } else drop(id, `${id} is ${state}${approval.note === undefined ? '' : `: ${approval.note}`}`)
    ports.repaint()
  }

  function drop(id: string, because: string): void {
    if (!pending.has(id)) return
    const before = listed()
    const position = before.findIndex((each) => each.id === id)
    pending.delete(id)
    if (selected === id) selected = (before[position + 1] ?? before[position - 1])?.id
    // A question that is over takes its prompt along: what is typed must not go to another.
    if (prompt?.id === id) prompt = undefined
    if (open?.id === id) {
      open = undefined
      if (!busy) say(because, 'yellow')
    }
  }

  function ready(at: number): void {
    offset = at - clock()
    for (const id of pending.keys()) if (!told.has(id)) drop(id, `${id} is no longer pending`)
    told.clear()
    if (!isReady) selected = listed()[0]?.id
    isReady = true
    ports.repaint()
  }

  // Keys --------------------------------------------------------------------------------------------------------------

  function key(pressed: Key): void {
    if (pressed.ctrl === true && pressed.name === 'c') return ports.quit()
    if (pressed.ctrl === true && pressed.name === 'z') return ports.suspend()
    if (prompt !== undefined) promptKey(prompt, pressed)
    else {
      notice = undefined
      if (isHelp) isHelp = false
      else if (pressed.name === '?' || pressed.text === '?') isHelp = true
      else if (open !== undefined) openKey(open, pressed)
      else listKey(pressed)
    }
    ports.repaint()
  }

  function listKey({ name, text }: Key): void {
    const all = listed()
    const position = all.findIndex(({ id }) => id === selected)
    const to = (next: number): void => {
      selected = all[Math.max(0, Math.min(all.length - 1, next))]?.id
    }
    if (text === 'G' || name === 'end') return to(all.length - 1)
    switch (name) {
      case 'j':
      case 'down':
        return to(position + 1)
      case 'k':
      case 'up':
        return to(position - 1)
      case 'pagedown':
        return to(position + page)
      case 'pageup':
        return to(position - page)
      case 'g':
      case 'home':
        return to(0)
      case 'q':
        return ports.quit()
      default:
        return bothKeys(name, selected)
    }
  }

  function openKey(details: Open, { name, text }: Key): void {
    if (text === 'G' || name === 'end') return void (details.top = Infinity)
    const all = listed()
    const position = all.findIndex(({ id }) => id === details.id)
    switch (name) {
      case 'q':
      case 'escape':
      case 'left':
      case 'h':
        open = undefined
        return
      case 'n':
        return show(all[position + 1]?.id)
      case 'p':
        return show(all[position - 1]?.id)
      case 'return':
      case 'enter':
      case 'right':
      case 'l':
        return
      case 'space':
        scroll(details, 'pagedown')
        return
      default:
        if (!scroll(details, name)) bothKeys(name, details.id)
    }
  }

  /** Moves the page, where the key is for that. */
  function scroll(details: Open, name: string): boolean {
    const steps: Readonly<Record<string, number>> = {
      j: 1,
      down: 1,
      k: -1,
      up: -1,
      pagedown: page,
      pageup: -page,
      g: -Infinity,
      home: -Infinity,
      end: Infinity,
    }
    const step = Object.hasOwn(steps, name) ? steps[name] : undefined
    if (step === undefined) return false
    details.top = Math.max(0, details.top + step)
    return true
  }

  function bothKeys(name: string, id: string | undefined): void {
    if (name === 'r') {
      say('asking the gateway again')
      return ports.reconnect()
    }
    if (id === undefined) return
    if (['return', 'enter', 'space', 'right', 'l'].includes(name)) return show(id)
    // Nobody answers what was not put before them: the question is opened, whole, and the answer typed below it.
    if (name === 'a') return show(id, () => begin('approve', id))
    if (name === 'd') return show(id, () => begin('deny', id))
    if (name === 'e') return show(id, change)
  }

  /** Opens a question, and goes on with `then` once it is there. */
  function show(id: string | undefined, then: () => void = () => {}): void {
    if (id === undefined) return
    selected = id
    if (open?.id === id && open.view !== undefined) return then()
    const opened: Open = { id, view: undefined, edited: undefined, top: 0, seen: 0, columns: 0, whole: false }
    open = opened
    during(async () => {
      const view = await ports.view(id)
      offset = view.now - clock()
      opened.view = view
      if (open === opened) then()
    })
  }

  function begin(kind: Prompt['kind'], id: string): void {
    if (!pending.has(id)) return say(`${id} is no longer pending`, 'yellow')
    prompt = { kind, id, stage: kind === 'deny' ? 'reason' : 'word', text: '' }
  }

  function change(): void {
    const details = open
    const args = details?.view?.approval.args
    if (details === undefined || args === undefined) return
    setImmediate(() =>
      during(async () => {
        const edited = await ports.change(args)
        if (open !== details) return
        if (edited === undefined) return say('nothing was changed')
        Object.assign(details, { edited, top: 0, seen: 0, whole: false })
        begin('edit', details.id)
      }),
    )
  }

  /** A word has to be typed where the call can't be taken back, or not all of it was looked at. */
  const demandsWord = ({ id, kind }: Prompt): boolean =>
    kind !== 'deny' && (pending.get(id)?.effect === 'destroy' || open?.whole !== true)

  function promptKey(typed: Prompt, { name, text, ctrl }: Key): void {
    if (name === 'escape') {
      prompt = undefined
      if (open !== undefined) open.edited = undefined
      return say(typed.kind === 'deny' ? 'not denied' : 'not approved')
    }
    if (['up', 'down', 'pageup', 'pagedown', 'home', 'end'].includes(name)) {
      if (open !== undefined) scroll(open, name)
      return
    }
    if (name === 'return' || name === 'enter') return confirm(typed)
    if (name === 'backspace') typed.text = typed.text.replace(/.$/su, '')
    else if (ctrl === true && name === 'u') typed.text = ''
    else if (ctrl !== true) typed.text = (typed.text + text.replace(/\p{Cc}+/gu, ' ')).slice(0, longestReason)
  }

  function confirm(typed: Prompt): void {
    if (typed.stage === 'word' && demandsWord(typed)) {
      const { permission = '' } = pending.get(typed.id) ?? {}
      const word = typed.text.trim()
      if (word !== 'yes' && word !== operationOf(permission))
        return say('that was not the word; Esc goes back', 'yellow')
      ;[typed.stage, typed.text] = ['reason', '']
      return
    }
    const edited = open?.edited
    const reason = typed.text.trim() || undefined
    prompt = undefined
    during(async () => {
      const { id, kind } = typed
      if (kind === 'edit' && edited === undefined) return
      const answered =
        kind === 'edit' && edited !== undefined
          ? await ports.edit(id, edited, reason)
          : await ports.answer(id, kind === 'deny' ? 'deny' : 'approve', reason)
      const { state, permission } = answered
      if (kind === 'edit' || state !== 'pending') {
        if (open?.id === id) open = undefined
        drop(id, '')
      }
      if (kind === 'edit') changed(answered)
      say(
        state === 'pending'
          ? `${permission}: your yes counts; it needs ${answered.ask.needs.map(needInWords).join(' and ')}`
          : `${permission} is ${state}${kind === 'edit' ? ' with your changes' : ''}`,
        state === 'denied' ? 'red' : 'green',
      )
    })
  }

  // The screen --------------------------------------------------------------------------------------------------------

  function frame({ rows, columns }: Size): ReturnType<Inbox['frame']> {
    const height = Math.max(1, rows - 3)
    page = Math.max(1, height - 1)
    const body = isHelp ? helpLines : open === undefined ? listLines(columns, height) : openLines(open, columns, height)
    const [bottom, at] = bottomLine(columns)
    const lines = [titleLine(columns), ...fill(body, height), bottom, [[keysLine(), 'dim']] as Line]
      .slice(0, rows)
      .map((line) => drawn(line, columns, io))
    return { lines, ...(at === undefined || rows < 3 ? {} : { cursor: { row: height + 1, column: at } }) }
  }

  function titleLine(columns: number): Line {
    const [state, because] = connection
    const count = pending.size === 0 ? 'nothing is pending' : `${pending.size} pending`
    const link =
      state === 'live' ? '● live' : state === 'connecting' ? '○ connecting' : `✗ ${safe(because ?? 'no connection')}`
    const title = ` Sallyport approvals · ${count}`
    const gap = Math.max(1, columns - width(title) - width(link) - 1)
    return [[`${title}${' '.repeat(gap)}${link} `, 'inverse']]
  }

  function listLines(columns: number, height: number): readonly Line[] {
    const all = listed()
    if (all.length === 0)
      return [
        [],
        [[isReady ? '  No question waits for people.' : '  Looking…', 'dim']],
        [],
        ...(isReady ? [[['  New ones appear here by themselves.', 'dim']] as Line] : []),
      ]
    const position = Math.max(
      0,
      all.findIndex(({ id }) => id === selected),
    )
    const room = height - 1
    top = Math.max(Math.min(top, position), position - room + 1, 0)
    const at = now()
    const widths = columnWidths(columns)
    const head = cells(['ID', 'AGENT', 'PERMISSION', 'EFFECT', 'AGE', 'ENDS'], widths)
    return [
      [[`  ${head.join('')}`, 'dim']],
      ...all.slice(top, top + room).map((approval): Line => {
        const { id, chain, permission, effect, openedAt, expiresAt, answers, args } = approval
        const isSelected = id === selected
        const [shownId = '', agents = '', what = '', kind = '', age = '', ends = ''] = cells(
          [
            id.replace(/^appr_/, ''),
            chain.map(({ agent }) => agent).join('→'),
            permission,
            effect,
            short(at - openedAt),
            short(expiresAt - at),
          ],
          widths,
        )
        const strong = isSelected ? 'bold' : undefined
        const beside = answers.length > 0 ? `${answers.length} answered` : columns >= 100 ? JSON.stringify(args) : ''
        return [
          [isSelected ? '▶ ' : '  ', 'cyan'],
          [shownId, 'dim'],
          strong === undefined ? [agents] : [agents, strong],
          strong === undefined ? [what] : [what, strong],
          [kind, effectStyle[effect]],
          [age, 'dim'],
          [ends, expiresAt - at < 60_000 ? 'red' : 'reset'],
          [beside === '' ? '' : ` ┃ ${safe(beside, { maxLength: 300 })}`, 'dim'],
        ]
      }),
    ]
  }

  function openLines(details: Open, columns: number, height: number): readonly Line[] {
    if (details.view === undefined) return [[], [[busy ? '  Looking…' : '  It can’t be shown: r asks again.', 'dim']]]
    const lines = card(details.view, now(), columns, details.edited)
    if (details.columns !== columns) [details.columns, details.seen, details.whole] = [columns, 0, false]
    details.top = Math.max(0, Math.min(details.top, lines.length - height))
    // What was on screen without a gap from the top: that much was put before the person.
    if (details.top <= details.seen) details.seen = Math.max(details.seen, Math.min(lines.length, details.top + height))
    details.whole ||= details.seen >= lines.length
    return lines.slice(details.top, details.top + height)
  }

  function bottomLine(columns: number): readonly [Line, number | undefined] {
    if (prompt !== undefined) {
      const question = questionOf(prompt)
      // The end of what is typed stays in sight.
      const room = Math.max(8, columns - width(question) - 2)
      let typed = safe(prompt.text)
      while (width(typed) > room) typed = typed.replace(/^./su, '')
      const problem: Line = notice === undefined ? [] : [[`  ${notice[0]}`, notice[1]]]
      return [[[question, 'bold'], [typed], ...problem], Math.min(columns - 1, width(question) + width(typed))]
    }
    if (busy) return [[['working…', 'dim']], undefined]
    if (notice !== undefined) return [[notice], undefined]
    const more =
      open === undefined || open.whole || open.view === undefined
        ? ''
        : '▼ more below: scroll to the end before you answer'
    return [[[more, 'yellow']], undefined]
  }

  function questionOf(typed: Prompt): string {
    const { permission = '', effect } = pending.get(typed.id) ?? {}
    if (typed.stage === 'word' && demandsWord(typed)) {
      const why = effect === 'destroy' ? 'can’t be taken back' : 'not all of it was on screen'
      return `${why}: type ${fitted(operationOf(permission))} or yes: `
    }
    if (typed.kind === 'deny') return 'deny; reason for the agent (or none): '
    return `${typed.kind === 'edit' ? 'approve your changes' : 'approve'}; reason (or none): `
  }

  function keysLine(): string {
    if (prompt !== undefined) return 'Enter goes on · Esc goes back · ↑↓ scroll'
    if (isHelp) return 'any key goes back'
    return open === undefined
      ? 'j/k move · Enter open · a approve · d deny · ? help · q quit'
      : 'j/k scroll · a approve · d deny · e edit · q back · ? help'
  }

  return {
    key,
    changed,
    ready,
    link(state, because) {
      connection = [state, because]
      if (state === 'live') notice = undefined
      ports.repaint()
    },
    frame,
  }
}

const operationOf = (permission: string): string => permission.slice(permission.lastIndexOf(':') + 1)
const fitted = (text: string): string => safe(text, { maxLength: 24 })

const fill = (lines: readonly Line[], height: number): readonly Line[] => [
  ...lines.slice(0, height),
  ...Array.from({ length: Math.max(0, height - lines.length) }, (): Line => []),
]

/** Widths for id, agent, permission, effect, age and end; each has a space at its end. */
function columnWidths(columns: number): readonly number[] {
  const spare = Math.max(0, Math.min(60, columns - 60))
  return [8 + (spare >= 40 ? 8 : 0), 12 + Math.floor(spare / 3), 16 + Math.floor(spare / 3), 8, 5, 5]
}

const cells = (texts: readonly string[], widths: readonly number[]): readonly string[] =>
  texts.map((text, position) => `${fit(safe(text, { maxLength: 200 }), (widths[position] ?? 8) - 1)} `)

/** A span of time in at most four characters. */
function short(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000))
  if (seconds < 100) return `${seconds}s`
  if (seconds < 100 * 60) return `${Math.floor(seconds / 60)}m`
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)}h`
  return `${Math.min(999, Math.floor(seconds / 86_400))}d`
}

const helpLines: readonly Line[] = [
  [],
  heading('Moving'),
  [['  j k ↑ ↓          the next, the one before; in details: scroll']],
  [['  g G Home End     the first, the last']],
  [['  Enter, Space     details: the whole question']],
  [['  n p              in details: the next question, the one before']],
  [['  q, Esc           back; in the list: quit']],
  [],
  heading('Answering'),
  [['  a                approve. The question is shown whole first']],
  [['  d                deny; the reason is told to the agent']],
  [['  e                change the arguments in $EDITOR, then approve']],
  [],
  [['  What can’t be taken back, or was not all on screen, asks for a word.']],
  [['  Whatever stands right of ┃ was written by an agent, a server or a person:']],
  [['  it is data. ┆ goes on with a line that was too long for the screen.']],
  [],
  [['  r  asks the gateway again        Ctrl-Z  suspends']],
]
