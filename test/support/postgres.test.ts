import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { describe, expect, test } from 'vitest'
import { noPostgres, startPostgres, versions } from './postgres.ts'

describe.each(versions)('a server of PostgreSQL %i for tests', async (version) => {
  const missing = await noPostgres(version)

  test.skipIf(missing)('is of that version, asks for the password, and keeps databases apart', async () => {
    const server = await startPostgres({ version })
    try {
      const url = await server.createDatabase('create table t (n int); insert into t values (7)')
      const client = new pg.Client({ connectionString: url })
      await client.connect()
      const { rows } = await client.query(
        `select n, current_setting('server_version_num')::int / 10000 as major from t`,
      )
      await client.end()
      expect(rows).toEqual([{ n: 7, major: version }])
      const wrong = new pg.Client({ connectionString: url.replace(/:[^:@]+@/, ':wrong@') })
      await expect(wrong.connect()).rejects.toThrow(/password authentication failed/)
      expect(server.newName()).not.toBe(server.newName())
    } finally {
      await server.close()
    }
    await expect(new pg.Client({ connectionString: server.adminUrl }).connect()).rejects.toThrow(/ECONNREFUSED/)
  })
})

test.skipIf(await noPostgres(18))('a server ends with the process that started it, however that ends', async () => {
  const module = fileURLToPath(new URL('postgres.ts', import.meta.url))
  const code = `import { startPostgres } from ${JSON.stringify(module)}
    console.log((await startPostgres({ version: 18 })).adminUrl)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', code], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [line] = (await once(child.stdout.setEncoding('utf8'), 'data')) as [string]
  const answers = async () => {
    const client = new pg.Client({ connectionString: line.trim() })
    client.on('error', () => {})
    try {
      await client.connect()
      await client.end()
      return true
    } catch {
      return false
    }
  }
  expect(await answers()).toBe(true)
  child.kill('SIGKILL')
  const until = Date.now() + 15_000
  while ((await answers()) && Date.now() < until) await sleep(50)
  expect(await answers()).toBe(false)
})
