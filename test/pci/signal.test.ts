// Interrupts without hardware: an eventfd that the test writes to in place of the kernel.
import { once } from 'node:events'
import fs from 'node:fs'
import { Worker } from 'node:worker_threads'
import test from 'ava'
import { Signal } from '../../lib/sys/signal.ts'

const one = Buffer.from('0100000000000000', 'hex')
const fire = (signal: Signal) => fs.writeSync(signal.fd, one)
const turns = async (count = 5) => {
  for (let i = 0; i < count; i++) await new Promise(setImmediate)
}

test('an armed signal calls its handler, a disarmed one does not', async (t) => {
  let calls = 0
  const signal = new Signal(() => calls++)
  fire(signal)
  await turns()
  t.is(calls, 0)
  t.true(signal.pending)

  signal.arm()
  t.false(signal.pending)
  await turns()
  t.is(calls, 0, 'what came before is forgotten')

  fire(signal)
  await turns()
  t.is(calls, 1)
  fire(signal)
  fire(signal)
  await turns()
  t.is(calls, 2, 'signals that come together are one call')

  signal.disarm()
  fire(signal)
  await turns()
  t.is(calls, 2)
  signal.arm()
  fire(signal)
  await turns()
  t.is(calls, 3)
  signal.close()
})

test('promises that the handler resolves go on in the same turn', async (t) => {
  const order: string[] = []
  await new Promise<void>((resolve) => {
    const signal = new Signal(() => {
      queueMicrotask(() => order.push('microtask'))
      process.nextTick(() => order.push('tick'))
      setImmediate(() => {
        order.push('immediate')
        signal.close()
        resolve()
      })
    })
    signal.arm()
    fire(signal)
  })
  t.deepEqual(order, ['tick', 'microtask', 'immediate'])
})

test('a signal disarmed between event and handler is not handled', async (t) => {
  let calls = 0
  const signals: Signal[] = []
  // Both are readable in one turn of the loop; the first handler disarms the other.
  for (let i = 0; i < 2; i++) {
    signals.push(
      new Signal(() => {
        calls++
        for (const signal of signals) signal.disarm()
      }),
    )
  }
  for (const signal of signals) signal.arm()
  for (const signal of signals) fire(signal)
  await turns()
  t.is(calls, 1)
  for (const signal of signals) signal.close()
})

test('closing gives the descriptor back', (t) => {
  const signal = new Signal(() => {})
  signal.arm()
  const link = `/proc/self/fd/${signal.fd}`
  t.is(fs.readlinkSync(link), 'anon_inode:[eventfd]')
  signal.close()
  t.throws(() => fs.readlinkSync(link), { code: 'ENOENT' })
})

test('only armed signals keep a thread alive, and those of the kernel never do', async (t) => {
  const url = new URL('../../lib/sys/signal.js', import.meta.url).href
  const run = async (code: string) => {
    const worker = new Worker(`import('${url}').then(({ Signal }) => { ${code} })`, { eval: true })
    const [status] = await once(worker, 'exit')
    return status
  }
  // These would never end if they kept the thread alive.
  t.is(await run('globalThis.s = new Signal(() => {})'), 0)
  t.is(await run('globalThis.s = new Signal(() => {}, { keepsAlive: false }); s.arm()'), 0)
  t.is(await run('globalThis.s = new Signal(() => {}); s.arm(); s.disarm()'), 0)
  // This one ends by its own handler.
  const write = "require('fs').writeSync(s.fd, Buffer.from('0100000000000000', 'hex'))"
  t.is(await run(`globalThis.s = new Signal(() => process.exit(7)); s.arm(); ${write}`), 7)
})
