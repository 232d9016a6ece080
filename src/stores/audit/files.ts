import fs from 'node:fs'

/**
 * What the log asks of the operating system to write. One call is one system call, so that a test can make any of them
 * fail. Only what waits for the disk itself is made off the event loop: a write goes to the system's memory, which takes
 * two microseconds, where a thread that is asked for it takes fifty.
 */
export interface Files {
  /** Opens for reading and writing; `create` makes the file (mode 0600) and fails with EEXIST if it is there. */
  open(path: string, create: boolean): Promise<number>
  /** Returns how many bytes were written, which may be fewer than given. */
  write(fd: number, bytes: Uint8Array, position: number): number
  datasync(fd: number): Promise<void>
  truncate(fd: number, size: number): Promise<void>
  close(fd: number): Promise<void>
  /** Makes new names in a folder durable. */
  syncFolder(path: string): Promise<void>
  unlink(path: string): Promise<void>
  /** Whether an open file still has a name in some folder. Answers at once: nothing is read from the disk. */
  isLinked(fd: number): boolean
}

export const systemFiles: Files = {
  open: (path, create) => call((done) => fs.open(path, create ? 'wx+' : 'r+', 0o600, done)),
  write: (fd, bytes, position) => fs.writeSync(fd, bytes, 0, bytes.length, position),
  datasync: (fd) => call((done) => fs.fdatasync(fd, done)),
  truncate: (fd, size) => call((done) => fs.ftruncate(fd, size, done)),
  close: (fd) => call((done) => fs.close(fd, done)),
  syncFolder: async (path) => {
    const folder = await fs.promises.open(path)
    try {
      await folder.sync()
    } finally {
      await folder.close()
    }
  },
  unlink: (path) => call((done) => fs.unlink(path, done)),
  isLinked: (fd) => fs.fstatSync(fd).nlink > 0,
}

function call<T>(start: (done: (thrown: Error | null, value?: T) => void) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    start((thrown, value) => (thrown ? reject(thrown) : resolve(value as T)))
  })
}

/** Writes all bytes. A write that takes fewer is repeated, and the one that then fails says why. */
export function writeAll(files: Files, fd: number, bytes: Uint8Array, position: number): void {
  for (let done = 0; done < bytes.length;) {
    const count = files.write(fd, done === 0 ? bytes : bytes.subarray(done), position + done)
    if (count === 0) throw Object.assign(new Error('the disk took no bytes'), { code: 'EIO' })
    done += count
  }
}
