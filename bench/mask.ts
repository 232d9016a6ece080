/** What it costs to look for secrets in a text, per second of processor time: `node bench/mask.ts`. */
import { randomBytes } from 'node:crypto'
import { createMasker } from '../src/guard/mask.ts'

const seconds = (): number => process.cpuUsage().user / 1e6
const megabytes = (bytes: number, seconds: number): string => `${(bytes / 1e6 / seconds).toFixed(0)} MB/s`

const values = Array.from({ length: 20 }, (_, at) => ({
  name: `S${at}`,
  value: randomBytes(20 + at * 2).toString('base64url'),
}))
const masker = createMasker(() => values)
const prose = 'The quick brown fox jumps over the lazy dog; order 4711 of customer 42 was refunded on 2026-11-20. '
const blob = randomBytes(750_000).toString('base64')
const hex = randomBytes(500_000).toString('hex')
const worst = values
  .map(({ value }) => `${value.slice(0, -1)} `)
  .join('')
  .repeat(1_500)
const texts = { prose: prose.repeat(10_000), base64: blob, hex, 'nearly secrets': worst }

for (const [name, text] of Object.entries(texts)) {
  const chunk = Buffer.from(text)
  masker.text(text)
  const runs = 20
  const startedAt = seconds()
  for (let run = 0; run < runs; run++) if (masker.text(text) !== text) throw new Error('changed')
  const asText = seconds() - startedAt
  const streamedAt = seconds()
  for (let run = 0; run < runs; run++) {
    const stream = masker.stream()
    let bytes = 0
    for (let at = 0; at < chunk.length; at += 16_384) bytes += stream.push(chunk.subarray(at, at + 16_384)).length
    if (bytes + stream.end().length !== chunk.length) throw new Error('changed')
  }
  const asStream = seconds() - streamedAt
  console.log(
    `${name.padEnd(16)} text ${megabytes(text.length * runs, asText).padStart(9)}   stream of 16 kB ${megabytes(text.length * runs, asStream).padStart(9)}`,
  )
}
