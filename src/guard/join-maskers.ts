import type { Json } from '../core/json.ts'
import { createMasker } from './mask.ts'
import type { Masked, Masker, MaskStream } from './mask.ts'

/**
 * A masker of values in groups: what is new in one group costs nothing for the others. A stream that is open finds what
 * becomes known meanwhile from its next bytes on.
 *
 * @param groups - The same arrays for as long as nothing in them changed.
 */
export function joinMaskers(groups: () => readonly (readonly Masked[])[]): Masker {
  const made = new WeakMap<readonly Masked[], Masker>()
  const maskers = (): readonly Masker[] =>
    groups().map((group) => {
      const masker = made.get(group) ?? createMasker(() => group)
      made.set(group, masker)
      return masker
    })

  function stream(): MaskStream {
    let stages = new Map<Masker, MaskStream>()
    const through = (bytes: Uint8Array): Uint8Array =>
      [...stages.values()].reduce((rest, stage) => stage.push(rest), bytes)
    const flush = (): Uint8Array => {
      let rest: Uint8Array = new Uint8Array()
      for (const stage of stages.values()) rest = Buffer.concat([stage.push(rest), stage.end()])
      return rest
    }
    /** What came since is looked for after what was there. What went goes when there is more of it than of the rest. */
    function follow(): Uint8Array | undefined {
      const now = maskers()
      const added = now.filter((masker) => !stages.has(masker))
      if (added.length === 0) return undefined
      const isOld = stages.size > 2 * now.length + 16
      const held = isOld ? flush() : undefined
      if (isOld) stages = new Map()
      for (const masker of now) if (!stages.has(masker)) stages.set(masker, masker.stream())
      return held
    }
    follow()
    return {
      push(chunk) {
        const held = follow()
        const next = through(chunk)
        return held === undefined ? next : Buffer.concat([held, next])
      },
      end: flush,
    }
  }

  return {
    text: (text) => maskers().reduce((rest, masker) => masker.text(rest), text),
    json: <T extends Json>(value: T): T => maskers().reduce((rest, masker) => masker.json(rest), value),
    bytes: (bytes) => maskers().reduce((rest, masker) => masker.bytes(rest), bytes),
    stream,
  }
}
