// koffi, which makes every native call, loaded with the first of them: what needs none runs where it can't be had.
// A worker thread that is terminated while koffi is loaded, while it declares a function, or while it watches a descriptor
// ends the process: so every function is declared with the loading, and descriptors are watched by watch-descriptor.ts.

import { createRequire } from 'node:module'

type Koffi = typeof import('koffi')

let koffi: Koffi | undefined
let libc: ReturnType<Koffi['load']> | undefined
const undeclared: (() => void)[] = []

/** The library itself. */
export function native(): Koffi {
  koffi ??= createRequire(import.meta.url)('koffi') as Koffi
  return koffi
}

/** Loads koffi, and declares every function of the C library: nothing of either is left to be done later. */
export function loadNative(): void {
  libc ??= native().load('libc.so.6')
  for (const declare of undeclared.splice(0)) declare()
}

// What a function takes and gives, its declaration says; who declares it types it.
// biome-ignore lint/suspicious/noExplicitAny: see above
type Native = (...args: any[]) => unknown

interface NativeFunction extends Native {
  /** On a thread of libuv's; the last argument is called with an error, or null and the result. */
  async(...args: unknown[]): void
}

/** A function of the C library by its declaration, looked up with the first call of any of them. */
export function func(declaration: string): NativeFunction {
  let found: NativeFunction | undefined
  const declare = () => {
    try {
      found = libc!.func(declaration) as NativeFunction
    } catch {
      // A system that lacks it may never be asked for it; the call says so.
    }
  }
  undeclared.push(declare)
  const find = (): NativeFunction => {
    loadNative()
    found ??= libc!.func(declaration) as NativeFunction
    return found
  }
  const call: Native = (...args) => (found ?? find())(...args)
  return Object.assign(call, { async: (...args: unknown[]) => find().async(...args) })
}
