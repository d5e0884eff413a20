// Tests of what an I/O connection does, on each kind of it.

import test, { type ExecutionContext } from 'ava'
import { type Namespace, type OpenOptions, open } from '../../src/index.ts'
import { startProxy, type TcpProxy } from './tcp-proxy.ts'
import { startTarget, type TargetLimits, type TestTarget } from './tcp-target.ts'

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

export interface Proxied {
  readonly target: TestTarget
  readonly proxy: TcpProxy
  readonly ns: Namespace
}

/** A namespace that is reached by a proxy, on this test's kind of connection. @param query more of its address */
export async function openByProxy(
  t: ExecutionContext<LinkContext>,
  device: string,
  options: OpenOptions = {},
  limits: TargetLimits = {},
  query = '',
): Promise<Proxied> {
  const target = await startTarget(device, limits)
  const proxy = await startProxy(target.port)
  const ns = await open(target.address(`link=${t.context.link}&${query}`, proxy.port), {
    reconnectDelay: 10,
    ...options,
  })
  t.teardown(async () => {
    await ns.close()
    await proxy.close()
    await target.close()
  })
  return { target, proxy, ns }
}
