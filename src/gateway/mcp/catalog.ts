import type { JsonObject } from '../../core/json.ts'
import type { Tools } from '../../guard/tool.ts'
import { offerLocal } from './local.ts'
import type { LocalOffer } from './local.ts'
import { originOfUri } from './names.ts'
import type { AddressOffer, PromptOffer, ToolOffer } from './offer.ts'
import type { Upstream } from './upstream.ts'
import type { Capabilities } from './wire.ts'

/** Where the address of a resource leads. */
export interface Route {
  readonly upstream: Upstream
  /** The address as the server knows it. */
  readonly uri: string
}

/** Everything that all servers offer, before anybody asks who may see it. In the order of the names. */
export interface Catalog {
  readonly tools: ReadonlyMap<string, ToolOffer | LocalOffer>
  readonly prompts: ReadonlyMap<string, PromptOffer>
  readonly resources: readonly AddressOffer[]
  readonly templates: readonly AddressOffer[]
  /** Where an address leads, listed or not: servers have more addresses than they list. */
  route(uri: string): Route | undefined
}

export interface Catalogs {
  upstream(alias: string): Upstream | undefined
  /** The catalog for a client that can be asked this. `key` tells the client from all others. */
  for(key: string, capabilities: Capabilities): Promise<Catalog>
}

const mostKept = 100

export function createCatalogs(upstreams: () => ReadonlyMap<string, Upstream>, local?: Tools): Catalogs {
  const kept = new Map<string, { readonly revision: string; readonly catalog: Catalog }>()

  async function made(key: string, capabilities: Capabilities): Promise<Catalog> {
    const all = [...upstreams().values()]
    const kind = JSON.stringify(capabilities)
    const revisionNow = (): string =>
      [...all.map(({ resource: { alias }, revision: at }) => `${alias} ${at}`), local?.revision() ?? 0].join()
    const revision = revisionNow()
    const known = kept.get(kind)
    if (known?.revision === revision) return known.catalog

    await Promise.all(all.map(({ tried }) => tried))
    const offered = await Promise.all(
      all.map((upstream) => upstream.offered({ key, capabilities: upstream.allowed(capabilities) })),
    )
    const addresses = new Map<string, Upstream>()
    const [sole, ...others] = all.filter(({ resource }) => !resource.prefix)
    for (const { resources } of offered)
      for (const { resource, shown } of resources) {
        const upstream = upstreams().get(resource.alias)
        if (!resource.prefix && upstream !== undefined && !addresses.has(shown)) addresses.set(shown, upstream)
      }

    const catalog: Catalog = {
      tools: byName<ToolOffer | LocalOffer>([
        ...offered.flatMap(({ tools }) => tools),
        ...(local?.tools() ?? []).map(offerLocal),
      ]),
      prompts: byName(offered.flatMap(({ prompts }) => prompts)),
      resources: sorted(offered.flatMap(({ resources }) => resources)),
      templates: sorted(offered.flatMap(({ templates }) => templates)),
      route(uri) {
        const own = addresses.get(uri)
        if (own !== undefined) return { upstream: own, uri }
        const origin = originOfUri(uri)
        const named = origin === undefined ? undefined : upstreams().get(origin.alias)
        if (origin !== undefined && named?.resource.prefix === true) return { upstream: named, uri: origin.uri }
        return sole !== undefined && others.length === 0 ? { upstream: sole, uri } : undefined
      },
    }
    if (kept.size >= mostKept) kept.clear()
    // What changed while this was read is read again next time.
    if (revision === revisionNow()) kept.set(kind, { revision, catalog })
    return catalog
  }

  return { upstream: (alias) => upstreams().get(alias), for: made }
}

/** A name that would lead to two things leads nowhere. */
function byName<T extends { readonly shown: string }>(offers: readonly T[]): ReadonlyMap<string, T> {
  const found = new Map<string, T>()
  const twice = new Set<string>()
  for (const offer of sorted(offers)) {
    if (found.has(offer.shown)) twice.add(offer.shown)
    found.set(offer.shown, offer)
  }
  for (const name of twice) found.delete(name)
  return found
}

const sorted = <T extends { readonly shown: string }>(offers: readonly T[]): T[] =>
  [...offers].sort((a, b) => (a.shown < b.shown ? -1 : a.shown > b.shown ? 1 : 0))

/** What is listed of offers, for a client that may see them. */
export const listed = (offers: Iterable<{ readonly listed: JsonObject | undefined }>): JsonObject[] =>
  [...offers].flatMap(({ listed: each }) => (each === undefined ? [] : [each]))
