import { Failure } from '../../core/failure.ts'
import type { Upstream } from './upstream.ts'

/** Who is to be told when which resource changes. */
export interface Watching {
  /** Fails with `limited` for too many, or as the upstream failed. */
  add(watcher: string, session: string, upstream: Upstream, uri: string, shown: string): Promise<void>
  watches(watcher: string, shown: string): boolean
  remove(watcher: string, shown: string): void
  /** Ends all of a watcher. */
  forget(watcher: string): void
  /** Those who watch what an upstream said has changed, and under which address they know it. */
  of(
    alias: string,
    uri: string,
  ): readonly { readonly watcher: string; readonly session: string; readonly shown: string }[]
}

const mostEach = 100

interface Watch {
  readonly session: string
  readonly upstream: Upstream
  readonly uri: string
}

export function createWatching(): Watching {
  const byWatcher = new Map<string, Map<string, Watch>>()

  function remove(watcher: string, shown: string): void {
    const own = byWatcher.get(watcher)
    const watch = own?.get(shown)
    if (own === undefined || watch === undefined) return
    own.delete(shown)
    if (own.size === 0) byWatcher.delete(watcher)
    watch.upstream.unwatch(watch.uri)
  }

  return {
    async add(watcher, session, upstream, uri, shown) {
      const own = byWatcher.get(watcher) ?? new Map<string, Watch>()
      if (own.has(shown)) return
      if (own.size >= mostEach) throw new Failure('limited', `at most ${mostEach} resources can be watched at once`)
      byWatcher.set(watcher, own)
      own.set(shown, { session, upstream, uri })
      try {
        await upstream.watch(uri)
      } catch (thrown) {
        own.delete(shown)
        if (own.size === 0) byWatcher.delete(watcher)
        throw thrown
      }
    },
    watches: (watcher, shown) => byWatcher.get(watcher)?.has(shown) ?? false,
    remove,
    forget(watcher) {
      for (const shown of byWatcher.get(watcher)?.keys() ?? []) remove(watcher, shown)
    },
    of(alias, uri) {
      const found: { watcher: string; session: string; shown: string }[] = []
      for (const [watcher, own] of byWatcher)
        for (const [shown, watch] of own)
          if (watch.uri === uri && watch.upstream.resource.alias === alias)
            found.push({ watcher, session: watch.session, shown })
      return found
    },
  }
}
