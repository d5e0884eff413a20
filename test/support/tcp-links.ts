// Tests of what an I/O connection does, on each kind of it.

import test, { type ExecutionContext } from 'ava'

const LINKS = ['socket', 'raw'] as const

export interface LinkContext {
  /** For the address. */
  link: (typeof LINKS)[number]
}

/** Declares a test for each kind of connection, one after the other, since timeouts are short; `t.context.link` says which it is. */
export function onEachLink(title: string, body: (t: ExecutionContext<LinkContext>) => Promise<void>): void {
  for (const link of LINKS) {
    test.serial(`${link}: ${title}`, (t) => {
      t.context = { link }
      return body(t as ExecutionContext<LinkContext>)
    })
  }
}
