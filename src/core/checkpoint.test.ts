import { createHash, createPrivateKey, createPublicKey, sign, verify } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  decode,
  encode,
  formatCheckpoint,
  formatKey,
  formatNote,
  formatPrivateKey,
  keyId,
  openCheckpoint,
  parseCheckpoint,
  parseKey,
  parseNote,
  parsePrivateKey,
  type NoteKey,
} from './checkpoint.ts'

const sha256 = (bytes: Uint8Array): Uint8Array => new Uint8Array(createHash('sha256').update(bytes).digest())

const isSigned = (text: string, signature: string, { key }: NoteKey): boolean => {
  const der = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), Buffer.from(key, 'base64')])
  return verify(
    null,
    Buffer.from(text),
    createPublicKey({ key: der, format: 'der', type: 'spki' }),
    Buffer.from(signature, 'base64'),
  )
}

/** A key from the first test of RFC 8032 §7.1. */
const seed = Buffer.from('9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60', 'hex')
const secret = createPrivateKey({
  key: Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed]),
  format: 'der',
  type: 'pkcs8',
})
const publicKey = 'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a'
const name = 'example.com/log'
const key: NoteKey = {
  name,
  keyId: keyId(sha256, name, new Uint8Array(Buffer.from(publicKey, 'hex'))),
  key: Buffer.from(publicKey, 'hex').toString('base64'),
}
const root = encode(sha256(new Uint8Array(0)))
const signed = (text: string, by = key): string =>
  formatNote({ text, signatures: [{ ...by, signature: sign(null, Buffer.from(text), secret).toString('base64') }] })
const checkpoint = signed(formatCheckpoint({ origin: name, size: 7, root }))

describe('notes and keys of other implementations', () => {
  const notes: [key: string, note: string][] = [
    [
      'example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k',
      'This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n',
    ],
    [
      'PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW',
      "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n",
    ],
  ]
  test.each(notes)('%s', (text, source) => {
    const other = parseKey(text, sha256)
    expect(formatKey(other)).toBe(text)
    const note = parseNote(source)
    expect(note.signatures).toMatchObject([{ name: other.name, keyId: other.keyId }])
    expect(isSigned(note.text, note.signatures[0]?.signature ?? '', other)).toBe(true)
    expect(formatNote(note)).toBe(source)
  })

  test('the checkpoint in the specification', () => {
    const source =
      'example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n'
    const note = parseNote(source)
    const read = parseCheckpoint(note.text)
    expect(read).toEqual({
      origin: 'example.com/behind-the-sofa',
      size: 20852163,
      root: 'CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=',
    })
    expect(formatCheckpoint(read)).toBe(note.text)
    expect(formatNote(note)).toBe(source)
  })
})

describe('opening a checkpoint', () => {
  test('what the key signed', () => {
    expect(openCheckpoint(checkpoint, key, isSigned)).toEqual({ origin: name, size: 7, root })
  })

  test('signatures by others are passed over', () => {
    const other = formatNote({
      text: parseNote(checkpoint).text,
      signatures: [
        { name: 'witness', keyId: '01020304', signature: encode(new Uint8Array(72)) },
        ...parseNote(checkpoint).signatures,
      ],
    })
    expect(openCheckpoint(other, key, isSigned).size).toBe(7)
  })

  const text = (size: string | number): string => `${name}\n${size}\n${root}\n`
  const refused: [name: string, source: string, why: string][] = [
    ['nothing', '', 'a note needs'],
    ['no signature', text(7), 'a note needs'],
    ['another key of that name', checkpoint.replace(/— .*/, `— ${name} ${encode(new Uint8Array(68))}`), 'not signed by'],
    ['another log with the same key', signed(`example.com/other\n7\n${root}\n`), 'of the log example.com/other'],
    ['a changed size', checkpoint.replace('\n7\n', '\n6\n'), 'is wrong'],
    ['a leading zero', signed(text('07')), 'no decimal number'],
    ['a size beyond exact numbers', signed(text('9999999999999999')), 'no decimal number'],
    ['an extension line', signed(`${text(7)}more\n`), 'three lines'],
    ['a short root', signed(`${name}\n7\nAAAA\n`), 'not 32 bytes'],
    ['a root with stray bits', signed(`${name}\n7\n${root.slice(0, -2)}V=\n`), 'not 32 bytes'],
    ['a carriage return', checkpoint.replace('\n7\n', '\n7\r\n'), 'control characters'],
    ['a wrong one beside the right one', formatNote({ text: parseNote(checkpoint).text, signatures: [...parseNote(checkpoint).signatures, { ...key, signature: encode(new Uint8Array(64)) }] }), 'is wrong'],
    ['too much', 'x'.repeat(70_000), 'more than'],
  ] // prettier-ignore
  test.each(refused)('%s', (_name, source, why) => {
    expect(() => openCheckpoint(source, key, isSigned)).toThrow(why)
  })

  test('no changed byte passes', () => {
    const bytes = Buffer.from(checkpoint)
    for (let at = 0; at < bytes.length; at += 1)
      for (const bit of [1, 32]) {
        const bent = Buffer.from(bytes)
        bent[at] = (bent[at] as number) ^ bit
        expect(() => openCheckpoint(bent.toString(), key, isSigned), `byte ${at}`).toThrow()
      }
  })
})

describe('keys as text', () => {
  test('there and back', () => {
    expect(parseKey(formatKey(key), sha256)).toEqual(key)
    const own = { ...key, key: seed.toString('base64') }
    expect(parsePrivateKey(`${formatPrivateKey(own)}\n`)).toEqual(own)
  })

  const wrong: [name: string, text: string][] = [
    ['nothing', ''],
    ['another key id', formatKey(key).replace(key.keyId, '00000000')],
    ['another name', formatKey({ ...key, name: 'example.com/other' })],
    ['another type of key', `${name}+${key.keyId}+${encode(new Uint8Array([2, ...decode(key.key)]))}`],
    ['a private key', formatPrivateKey(key)],
  ]
  test.each(wrong)('%s is no public key', (_name, text) => {
    expect(() => parseKey(text, sha256)).toThrow('not a valid checkpoint or key')
  })

  test.each(['', 'a b', 'a+b', 'a\nb', 'ä', 'x'.repeat(201)])('%j is no name', (bad) => {
    expect(() => formatCheckpoint({ origin: bad, size: 0, root })).toThrow('visible ASCII')
  })
})

test('base64 is that of everybody else', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      expect(encode(bytes)).toBe(Buffer.from(bytes).toString('base64'))
      expect(decode(encode(bytes))).toEqual(bytes)
    }),
  )
})
