// koffi, which makes every native call, loaded with the first of them: what needs none runs where it can't be had.

import { createRequire } from 'node:module'

type Koffi = typeof import('koffi')

let koffi: Koffi | undefined
let libc: ReturnType<Koffi['load']> | undefined

/** The library itself. */
export function native(): Koffi {
  koffi ??= createRequire(import.meta.url)('koffi') as Koffi
  return koffi
}

// What a function takes and gives, its declaration says; who declares it types it.
// biome-ignore lint/suspicious/noExplicitAny: see above
type Native = (...args: any[]) => unknown

interface NativeFunction extends Native {
  /** On a thread of libuv's; the last argument is called with an error, or null and the result. */
  async(...args: unknown[]): void
}

/** A function of the C library by its declaration, looked up at its first call. */
export function func(declaration: string): NativeFunction {
  let found: NativeFunction | undefined
  const find = (): NativeFunction => {
    libc ??= native().load('libc.so.6')
    found ??= libc.func(declaration) as NativeFunction
    return found
  }
  const call: Native = (...args) => (found ?? find())(...args)
  return Object.assign(call, { async: (...args: unknown[]) => find().async(...args) })
}
