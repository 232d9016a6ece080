// Control characters and lone combining marks in patterns are what this file is about.
/* oxlint-disable no-control-regex, no-misleading-character-class */
import type { Json } from '../core/json.ts'

/**
 * Text that a model reads and a person doesn't see, or sees as something else. For descriptions from upstreams, which
 * have no good reason to hold any. A finding is a signal to look at, never a proof, and none is no proof of innocence.
 */
export type HiddenKind =
  | 'tag characters' // U+E0000 to U+E007F: invisible ASCII
  | 'variation selectors' // invisible bytes
  | 'zero-width characters'
  | 'direction overrides' // text that is shown in another order than it is read
  | 'escape sequence' // what draws on a terminal
  | 'control characters'
  | 'private characters' // private use and noncharacters: they look as anything
  | 'mixed scripts' // a word that looks Latin and isn't
  | 'styled letters' // letters from mathematics or full-width ones, where plain ones would do
  | 'comment' // HTML or Markdown that isn't shown
  | 'hidden element' // HTML that is styled away
  | 'padding' // white space that pushes text out of sight
  | 'instruction' // words and marks addressed to a model: `<IMPORTANT>`, chat templates, "do not tell the user"
  | 'not inspected' // what is beyond the bounds

export interface HiddenText {
  readonly kind: HiddenKind
  /** Where in the text, in UTF-16 units. */
  readonly at: number
  readonly length: number
  /** What it says, as far as it says something; at most 200 characters. By strangers: to be shown escaped. */
  readonly decoded?: string
}

const longestText = 65_536
const mostFindings = 50
const longestDecoded = 200

/** What is hidden in a text, in the order of kinds. Takes time linear in it; looks at the first 64 Ki units. */
export function findHidden(text: string): HiddenText[] {
  const looked = text.slice(0, longestText)
  const found = [...invisible(looked), ...disguised(looked), ...unseen(looked)].slice(0, mostFindings)
  if (text.length <= longestText) return found
  return [...found, { kind: 'not inspected', at: longestText, length: text.length - longestText }]
}

export interface HiddenTextAt extends HiddenText {
  /** JSON Pointer to the text; for a name, to what it names. */
  readonly where: string
}

/** `findHidden` in all texts and names of a value, such as a tool's definition. Looks at 10,000 of them, 100 deep. */
export function findHiddenIn(value: Json): HiddenTextAt[] {
  const found: HiddenTextAt[] = []
  let left = 10_000
  const add = (text: string, where: string): void => {
    if (found.length < mostFindings) for (const hidden of findHidden(text)) found.push({ ...hidden, where })
  }
  const look = (item: Json, where: string, depth: number): void => {
    left -= 1
    if (left === 0 || (left > 0 && depth > 100)) found.push({ kind: 'not inspected', at: 0, length: 0, where })
    if (left <= 0 || depth > 100) return
    if (typeof item === 'string') add(item, where)
    if (typeof item !== 'object' || item === null) return
    for (const [name, held] of Object.entries(item as Record<string, Json>)) {
      const path = `${where}/${name.slice(0, 100).replaceAll('~', '~0').replaceAll('/', '~1')}`
      if (!Array.isArray(item)) add(name, path)
      look(held, path, depth + 1)
    }
  }
  look(value, '', 0)
  return found
}

const removable: ReadonlySet<HiddenKind> = new Set<HiddenKind>([
  'tag characters',
  'variation selectors',
  'zero-width characters',
  'direction overrides',
  'escape sequence',
  'control characters',
  'private characters',
  'comment',
])

/**
 * The text without what can't be seen. Visible text is kept, whatever it says. In what it returns, `findHidden` finds
 * nothing that can't be seen. Text beyond what is inspected is cut off.
 */
export function cleanText(text: string): string {
  let clean = text.slice(0, longestText).toWellFormed()
  for (let round = 0; round < 4; round++) {
    const hidden = [...invisible(clean), ...unseen(clean)].filter(({ kind }) => removable.has(kind))
    if (hidden.length === 0) return clean
    clean = without(clean, hidden)
  }
  // What was put together so that removing it uncovers more.
  return clean.replace(allInvisible, '').replaceAll('<!--', '<! --').replace(/^\[/gm, ' [')
}

function without(text: string, hidden: readonly HiddenText[]): string {
  let kept = ''
  let end = 0
  for (const { at, length } of hidden.toSorted((one, other) => one.at - other.at)) {
    if (at > end) kept += text.slice(end, at)
    end = Math.max(end, at + length)
  }
  return kept + text.slice(end)
}

// --- Characters that are not seen ---

const allInvisible =
  /[\p{Cc}\p{Cf}\p{Co}\p{Noncharacter_Code_Point}\p{Default_Ignorable_Code_Point}\p{Variation_Selector}](?<![\t\n\r])/gu

function* invisible(text: string): Generator<HiddenText> {
  yield* tags(text)
  yield* variationSelectors(text)
  yield* zeroWidth(text)
  yield* directions(text)
  // CSI and OSC sequences (ECMA-48), in both their forms; then whatever else follows ESC.
  yield* all(
    text,
    'escape sequence',
    /(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?|\x1b[ -~]?/g,
  )
  yield* all(text, 'control characters', /[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9a\x9c\x9e\x9f]+/g)
  yield* all(text, 'private characters', /[\p{Co}\p{Noncharacter_Code_Point}]+/gu)
}

/** The flags of England, Scotland and Wales are written with tags. */
const flags = new Set(['gbeng\u007f', 'gbsct\u007f', 'gbwls\u007f'])

function* tags(text: string): Generator<HiddenText> {
  for (const found of all(text, 'tag characters', /[\u{e0000}-\u{e007f}]+/gu)) {
    const said = slice(text, found).replace(/./gu, (tag) => String.fromCharCode((tag.codePointAt(0) ?? 0) & 0x7f))
    if (flags.has(said) && before(text, found.at) === '🏴') continue
    yield decodedAs(found, said.replace(/[^ -~]/g, ''))
  }
}

/** One after a character that has variants is how it is meant to be. */
const hasVariants = /[\p{Emoji}\p{Script=Han}\p{Sm}\p{So}\p{Script=Mongolian}\p{Script=Myanmar}\p{Script=Phags_Pa}]/u
function* variationSelectors(text: string): Generator<HiddenText> {
  const scattered: HiddenText[] = []
  for (const found of all(text, 'variation selectors', /[\ufe00-\ufe0f\u{e0100}-\u{e01ef}]+/gu)) {
    const run = Array.from(slice(text, found))
    if (run.length > 1) yield decodedAs(found, bytesOf(run))
    else if (!hasVariants.test(before(text, found.at))) scattered.push(found)
  }
  // One after each letter: they say something together.
  const said = bytesOf(scattered.map((found) => slice(text, found)))
  for (const [index, found] of scattered.entries()) yield index === 0 ? decodedAs(found, said) : found
}

function bytesOf(selectors: readonly string[]): string {
  const bytes = selectors.map((one) => {
    const code = one.codePointAt(0) ?? 0
    return code >= 0xe0100 ? code - 0xe0100 + 16 : code - 0xfe00
  })
  return Buffer.from(bytes).toString('utf8')
}

const emojiPart = /[\p{Extended_Pictographic}\p{Emoji_Modifier}\ufe0f\u20e3]/u
/** Scripts that are written with joiners, and scripts that are written without spaces. */
const joining =
  /[\p{Script_Extensions=Arabic}\p{Script_Extensions=Syriac}\p{Script=Nko}\p{Script=Mongolian}\p{Script=Devanagari}\p{Script=Bengali}\p{Script=Gurmukhi}\p{Script=Gujarati}\p{Script=Oriya}\p{Script=Tamil}\p{Script=Telugu}\p{Script=Kannada}\p{Script=Malayalam}\p{Script=Sinhala}\p{Script=Tibetan}\p{Script=Khmer}\p{Script=Myanmar}]/u
const unspaced =
  /[\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}\p{Script=Tibetan}\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]/u

function* zeroWidth(text: string): Generator<HiddenText> {
  const characters =
    /[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200d\u2060-\u2065\u206a-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\u{1bca0}-\u{1bca3}\u{1d173}-\u{1d17a}\u{e0080}-\u{e00ff}\u{e01f0}-\u{e0fff}]+/gu
  for (const found of all(text, 'zero-width characters', characters)) {
    const run = slice(text, found)
    const [base, next] = [before(text, found.at), text.slice(found.at + 1, found.at + 3)]
    const isOrdinary =
      (run === '\u200d' && emojiPart.test(base) && /^\p{Extended_Pictographic}/u.test(next)) ||
      ((run === '\u200d' || run === '\u200c') && joining.test(base)) ||
      (run === '\u200b' && unspaced.test(base)) ||
      (run === '\u00ad' && /\p{L}/u.test(base) && /^\p{L}/u.test(next)) ||
      (/^[\u180b-\u180f]$/.test(run) && /\p{Script=Mongolian}/u.test(base)) ||
      (run === '\ufeff' && found.at === 0)
    if (!isOrdinary) yield decodedAs(found, bitsOf(run))
  }
}

/** Two kinds of zero-width characters as the bits of ASCII, either way round. */
function bitsOf(run: string): string {
  const kinds = [...new Set(run)].sort()
  if (kinds.length !== 2 || run.length < 16) return ''
  for (const one of kinds) {
    const bytes =
      run
        .match(/.{8}/gsu)
        ?.map((bits) => Number.parseInt(Array.from(bits, (bit) => (bit === one ? '1' : '0')).join(''), 2)) ?? []
    if (bytes.every((byte) => byte >= 0x20 && byte < 0x7f))
      return String.fromCharCode(...bytes.slice(0, longestDecoded))
  }
  return ''
}

const rightToLeft =
  /[\p{Script=Arabic}\p{Script=Hebrew}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}\p{Script=Adlam}]/u

function* directions(text: string): Generator<HiddenText> {
  const isRightToLeft = rightToLeft.test(text)
  const isBalanced = isRightToLeft && closesAll(text)
  for (const found of all(text, 'direction overrides', /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g)) {
    const character = slice(text, found)
    const isMark = /[\u061c\u200e\u200f]/.test(character)
    const isOverride = /[\u202d\u202e]/.test(character)
    if (isOverride || !(isMark ? isRightToLeft : isBalanced)) yield found
  }
}

/** Whether every embedding and isolate is closed, by what closes it. */
function closesAll(text: string): boolean {
  const open: string[] = []
  for (const [character] of text.matchAll(/[\u202a-\u202e\u2066-\u2069]/g)) {
    if (character === '\u202c' || character === '\u2069') {
      if (open.pop() !== character) return false
    } else open.push(character < '\u2066' ? '\u202c' : '\u2069')
  }
  return open.length === 0
}

// --- Characters that look like others ---

const looksLatin = new Map([
  ...pairs('авгекморсухіјѕԁһӏԛԝґѵАВЕКМНОРСТУХІЈЅ', 'aBreKmopcyxijsdhlqwrvABEKMHOPCTYXIJS'),
  ...pairs('αικνορτυχΑΒΕΖΗΙΚΜΝΟΡΤΥΧ', 'aiKvoptuxABEZHIKMNOPTYX'),
  ...pairs('օոսցհոԼՏ', 'onughnLS'),
])

function pairs(from: string, to: string): [string, string][] {
  return Array.from(from, (letter, index) => [letter, to.charAt(index)])
}

const latin = /\p{Script=Latin}/u
const neverWithLatin = /[\p{Script=Cyrillic}\p{Script=Armenian}\p{Script=Cherokee}]/u
/** Greek stands beside Latin in units and formulas, so only what looks Latin counts, in a word of some length. */
const greekLikeLatin = /[αικνορτυχΑΒΕΖΗΙΚΜΝΟΡΤΥΧ]/

function* disguised(text: string): Generator<HiddenText> {
  for (const found of all(text, 'mixed scripts', /\p{L}[\p{L}\p{M}]*/gu)) {
    const word = slice(text, found)
    if (!latin.test(word)) continue
    if (!neverWithLatin.test(word) && !(found.length >= 4 && greekLikeLatin.test(word))) continue
    yield decodedAs(
      found,
      word.slice(0, 2 * longestDecoded).replace(/./gsu, (letter) => looksLatin.get(letter) ?? letter),
    )
  }
  const isAsian = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}]/u.test(text)
  const styled = isAsian
    ? /[\u{1d400}-\u{1d7ff}](?:[\u{1d400}-\u{1d7ff}]| (?! )){3,}/gu
    : /[\u{1d400}-\u{1d7ff}\uff21-\uff5a](?:[\u{1d400}-\u{1d7ff}\uff21-\uff5a]| (?! )){3,}/gu
  for (const found of all(text, 'styled letters', styled)) {
    yield decodedAs(
      found,
      slice(text, found)
        .slice(0, 4 * longestDecoded)
        .normalize('NFKC'),
    )
  }
}

// --- What is not shown, and whom it is for ---

function* unseen(text: string): Generator<HiddenText> {
  yield* comments(text)
  const style = String.raw`display\s{0,5}:\s{0,5}none|visibility\s{0,5}:\s{0,5}hidden|font-size\s{0,5}:\s{0,5}0|opacity\s{0,5}:\s{0,5}0(?![.\d])|\shidden(?=[\s>=/])`
  yield* all(text, 'hidden element', new RegExp(`<[a-z][^<>]{0,200}?(?:${style})[^<>]{0,200}>`, 'gi'))
  yield* all(text, 'padding', /[^\S\n\r]{100,}|(?:\r?\n[^\S\n\r]{0,20}){20,}/g)
  const addressed = [
    /<\s{0,5}\/?\s{0,5}(?:important|system|secret|instructions?|hidden|admin|assistant|system[-_]?(?:prompt|message|reminder))(?:\s[^<>]{0,100})?>/gi,
    /<\|[a-z_]{2,30}\|>|\[\/?INST\]|<<\/?SYS>>/gi,
    /\b(?:ignore|disregard|forget|override)\b[^.\n]{0,40}\b(?:previous|prior|above|earlier|all|any|other)\b[^.\n]{0,30}\b(?:instructions?|prompts?|rules|tools?)\b/gi,
    /\b(?:do not|don't|never|without)\s{1,5}(?:tell|telling|inform|informing|mention|mentioning|reveal|notify|notifying|show|alert)\b[^.\n]{0,40}\buser\b/gi,
  ]
  for (const pattern of addressed)
    for (const found of all(text, 'instruction', pattern)) yield decodedAs(found, slice(text, found))
}

function* comments(text: string): Generator<HiddenText> {
  for (let at = text.indexOf('<!--'); at >= 0;) {
    const close = text.indexOf('-->', at + 4)
    const end = close < 0 ? text.length : close + 3
    yield decodedAs(
      { kind: 'comment', at, length: end - at },
      text.slice(at + 4, close < 0 ? text.length : close).trim(),
    )
    at = text.indexOf('<!--', end)
  }
  for (const found of all(text, 'comment', /^\[(?:\/\/|comment|_)\]:[^\n]*/gm))
    yield decodedAs(found, slice(text, found))
}

// --- Small parts ---

function* all(text: string, kind: HiddenKind, pattern: RegExp): Generator<HiddenText> {
  for (const match of text.matchAll(pattern)) yield { kind, at: match.index, length: match[0].length }
}

const slice = (text: string, { at, length }: HiddenText): string => text.slice(at, at + length)

const decodedAs = (found: HiddenText, said: string): HiddenText =>
  said === '' ? found : { ...found, decoded: said.slice(0, longestDecoded).toWellFormed() }

/** The character before a place, and the one before that if it is a variation selector. */
function before(text: string, at: number): string {
  const [one = '', last = ''] = Array.from(text.slice(Math.max(0, at - 4), at)).slice(-2)
  if (last === '') return one
  return /[\ufe00-\ufe0f\u{e0100}-\u{e01ef}]/u.test(last) ? one + last : last
}
