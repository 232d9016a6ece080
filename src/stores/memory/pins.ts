import type { Pin, PinKind, PinStore } from '../../core/pin.ts'
import { copy, encode } from '../record.ts'

export function memoryPins(): PinStore {
  const pins = new Map<string, Pin>()
  const place = (resource: string, kind: PinKind, name: string): string => encode([resource, kind, name])

  return {
    async list(resource) {
      return [...pins]
        .filter(([, pin]) => resource === undefined || pin.resource === resource)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([, pin]) => copy(pin))
    },
    async put(pin) {
      pins.set(place(pin.resource, pin.kind, pin.name), copy(pin))
    },
    async remove(resource, kind, name) {
      pins.delete(place(resource, kind, name))
    },
  }
}
