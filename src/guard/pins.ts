import type { AuditLog } from '../core/audit.ts'
import { Failure } from '../core/failure.ts'
import type { JsonObject } from '../core/json.ts'
import type { Pin, PinKind, PinStore } from '../core/pin.ts'
import type { Clock } from './clock.ts'
import { findHiddenIn } from './hidden-text.ts'
import { compareWithPin, difference, digestOfDefinition } from './definition.ts'

/** How a definition stands to what was accepted of it. */
export type Standing =
  | { readonly kind: 'accepted' }
  /** It changed. `shown` is what was accepted before, if anything was. */
  | { readonly kind: 'changed'; readonly shown: JsonObject | undefined; readonly because: string }

/** Holds what servers say of their operations to what was seen first, to configuration, or to what a person accepted. */
export interface Pinned {
  /** How a definition stands, remembering one that is seen for the first time or has changed. */
  hold(
    resource: string,
    kind: PinKind,
    name: string,
    definition: JsonObject,
    configured?: ReadonlyMap<string, string>,
  ): Promise<Standing>
  /** A person accepts a changed definition. Fails with `not_found`; `conflict` when another one is proposed by now. */
  accept(resource: string, kind: PinKind, name: string, digest: string, by: string): Promise<void>
}

/** Definitions of one resource that are remembered. A server that makes up names without end is not followed. */
const mostPins = 5_000

export async function createPinned(store: PinStore, audit: Pick<AuditLog, 'append'>, clock: Clock): Promise<Pinned> {
  const pins = new Map<string, Pin>()
  const counts = new Map<string, number>()
  const told = new Map<string, string>()
  const place = (resource: string, kind: PinKind, name: string): string => JSON.stringify([resource, kind, name])

  function enter(pin: Pin): void {
    const key = place(pin.resource, pin.kind, pin.name)
    if (!pins.has(key)) counts.set(pin.resource, (counts.get(pin.resource) ?? 0) + 1)
    pins.set(key, pin)
  }
  for (const pin of await store.list()) enter(pin)

  /** Durable first: what is not kept is not held to. */
  async function keep(pin: Pin): Promise<void> {
    await store.put(pin)
    enter(pin)
  }

  async function hold(
    resource: string,
    kind: PinKind,
    name: string,
    definition: JsonObject,
    configured?: ReadonlyMap<string, string>,
  ): Promise<Standing> {
    const digest = digestOfDefinition(definition)
    const known = pins.get(place(resource, kind, name))
    const wanted = kind === 'tool' ? configured?.get(name) : undefined
    if (configured !== undefined && kind === 'tool' && digest !== (wanted ?? known?.digest)) {
      const because =
        wanted === undefined
          ? `the configuration has no digest for the ${kind} \`${name}\``
          : `the definition of the ${kind} \`${name}\` is not the one in the configuration`
      return propose(resource, kind, name, digest, definition, because)
    }
    const state = compareWithPin(known, digest)
    if (known !== undefined && state === 'same') {
      if (known.proposed !== undefined) await keep(withoutProposal(known))
      return { kind: 'accepted' }
    }
    if (state === 'new' || wanted === digest) {
      if (state === 'new' && (counts.get(resource) ?? 0) >= mostPins)
        return {
          kind: 'changed',
          shown: undefined,
          because: `${resource} has offered more than ${mostPins} operations`,
        }
      const acceptedBy = wanted === undefined ? 'first sight' : 'configuration'
      await keep({ resource, kind, name, digest, definition, acceptedAt: clock(), acceptedBy })
      await audit.append({
        type: 'tool.pinned',
        at: clock(),
        resource,
        kind,
        name: name.slice(0, 200),
        digest,
        by: acceptedBy,
        ...hiddenIn(definition),
      }).done
      return { kind: 'accepted' }
    }
    return propose(resource, kind, name, digest, definition, `the definition of the ${kind} \`${name}\` has changed`)
  }

  async function propose(
    resource: string,
    kind: PinKind,
    name: string,
    digest: string,
    definition: JsonObject,
    because: string,
  ): Promise<Standing> {
    const known = pins.get(place(resource, kind, name))
    const key = place(resource, kind, name)
    if ((known?.proposed?.digest ?? told.get(key)) !== digest) {
      if (known === undefined && told.size < mostPins) told.set(key, digest)
      if (known !== undefined) await keep({ ...known, proposed: { digest, definition, seenAt: clock() } })
      await audit.append({
        type: 'tool.changed',
        at: clock(),
        resource,
        kind,
        name: name.slice(0, 200),
        digest,
        because,
        ...hiddenIn(definition),
        ...(known === undefined ? {} : { was: known.digest }),
      }).done
    }
    return { kind: 'changed', shown: known?.definition, because: `${because}: a person has to accept it first` }
  }

  async function accept(resource: string, kind: PinKind, name: string, digest: string, by: string): Promise<void> {
    const known = pins.get(place(resource, kind, name))
    if (known?.proposed === undefined)
      throw new Failure('not_found', `no change of the ${kind} \`${name}\` of ${resource} waits for anybody`)
    const { proposed } = known
    if (proposed.digest !== digest) throw new Failure('conflict', 'another change came meanwhile: look at it first')
    await audit.append({
      type: 'tool.accepted',
      at: clock(),
      resource,
      kind,
      name: name.slice(0, 200),
      digest,
      was: known.digest,
      by,
    }).done
    await keep({
      ...withoutProposal(known),
      digest,
      definition: proposed.definition,
      acceptedAt: clock(),
      acceptedBy: by,
    })
  }

  return { hold, accept }
}

/** What a person would not see in a definition: written down with it, for whoever looks. */
function hiddenIn(definition: JsonObject): JsonObject {
  const found = findHiddenIn(definition)
  return found.length === 0
    ? {}
    : { hidden: found.slice(0, 20).map(({ kind, where }) => ({ kind, where: where.slice(0, 200) })) }
}

/** What a proposed definition changes, for a person to read. */
export const differenceOf = ({ definition, proposed }: Pin): string =>
  proposed === undefined ? '' : difference(definition, proposed.definition).join('\n')

function withoutProposal(pin: Pin): Pin {
  const { proposed: _proposed, ...rest } = pin
  return rest
}
