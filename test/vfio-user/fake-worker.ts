// The thread of a fake server: answers one client after the other, with what a test has told it to do wrong.

import fs from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { F, fcntl, POLL } from '../../lib/sys/libc.ts'
import type { Message } from '../../lib/vfio-user/reader.ts'
import { acceptFrom, closeDescriptors, listenAt, waitFor } from '../../lib/vfio-user/socket.ts'
import { encodeMessage } from '../../lib/vfio-user/structs.ts'
import { type Answer, BAR_BYTES, createFakeDevice, FAKE } from './fake-device.ts'
import type { FakeEvent, FakeOptions, Wrong } from './fake-server.ts'
import { createFileMutator, createMutator, type Mutator } from './mutations.ts'
import { newEventfd, u16, Wire } from './wire.ts'

const { path, wrong, seed, files, words } = workerData as FakeOptions & { path: string; words: Int32Array }
const REPLY = 1
const say = (event: FakeEvent) => parentPort!.postMessage(event)
const device = createFakeDevice()
const mutator = seed === undefined ? null : files ? createFileMutator(seed, BAR_BYTES) : createMutator(seed)

/** Serves a client until it leaves, or has been answered wrongly enough. */
function serve(wire: Wire): void {
  const seen = new Map<number, number>()
  mutator?.next()
  while (Atomics.load(words, FAKE.STOP) === 0) {
    const message = wire.next(50)
    if (message === null) {
      if ((waitFor(wire.fd, POLL.RDHUP, 0) & (POLL.RDHUP | POLL.HUP)) !== 0) return
      continue
    }
    const { header, payload, fds } = message
    // A refusal of what this server asked for itself.
    if ((header.flags & 0xf) === REPLY) continue
    const count = seen.get(header.command) ?? 0
    seen.set(header.command, count + 1)
    if (mutator === null) say({ command: header.command, payload: new Uint8Array(payload), fds: fds.length })
    const answer = device.answer(message)
    if (files) for (const fd of fds) fcntl(fd, F.SETFL, 0)
    closeDescriptors(fds)
    const fault = wrong?.find((each) => meets(each, header.command, count))
    const goOn = mutator ? mutate(wire, message, answer, mutator) : reply(wire, message, answer, fault)
    if (!goOn) return
  }
}

const meets = ({ command, after = 0, always = false }: Wrong, asked: number, count: number) =>
  command === asked && (count === after || (always && count > after))

function mutate(wire: Wire, { header }: Message, { payload, fds }: Answer, mutations: Mutator): boolean {
  const bytes = encodeMessage({ id: header.id, command: header.command, flags: REPLY }, payload)
  const made = mutations.mutate(bytes, fds)
  if (made.changed) Atomics.add(words, FAKE.MUTATIONS, 1)
  const sent = wire.raw(made.bytes, made.fds)
  made.after?.()
  closeDescriptors(made.own)
  return sent && !made.last
}

/** False where the connection is to be closed. */
function reply(wire: Wire, { header }: Message, { payload, fds }: Answer, fault: Wrong | undefined): boolean {
  const { id, command } = header
  const send = (body: Buffer, { flags = REPLY, errno = 0, as = id, with: others = fds } = {}) =>
    wire.raw(encodeMessage({ id: as, command, flags }, body, errno), others)
  switch (fault?.kind) {
    case undefined:
      return send(payload)
    case 'close':
      return false
    case 'silence':
      return true
    case 'error':
      return send(Buffer.alloc(0), { flags: 0x21, errno: fault.errno ?? 22, with: [] })
    case 'payload':
      return send(Buffer.from(fault.bytes!))
    case 'short':
      return send(payload.subarray(0, payload.length - fault.count!))
    case 'long':
      return send(Buffer.concat([payload, Buffer.alloc(fault.count!)]))
    case 'half':
      wire.raw(encodeMessage({ id, command, flags: REPLY }, payload).subarray(0, fault.count!), fds)
      return false
    case 'stuck':
      return wire.raw(encodeMessage({ id, command, flags: REPLY }, payload).subarray(0, fault.count!), fds)
    case 'garbage':
      return wire.raw(Buffer.alloc(64, 0xa5))
    case 'id':
      return send(payload, { as: (id + 1) & 0xffff })
    case 'type':
      return send(payload, { flags: 5 })
    case 'descriptors':
      return sendWith(fault.count!, (others) => send(payload, { with: others }), fds)
    case 'file': {
      const fd = fs.openSync(fault.file!, 'r')
      send(payload, { with: [fd] })
      fs.closeSync(fd)
      return true
    }
    case 'ask':
      // A request of the server's own, in between: the client refuses it and waits on.
      wire.raw(encodeMessage({ id: 500, command: 11, flags: 0 }, Buffer.alloc(16)))
      return send(payload)
    case 'dribble':
      for (const byte of encodeMessage({ id, command, flags: REPLY }, payload)) wire.raw(Buffer.from([byte]))
      return true
    default:
      return send(Buffer.concat([payload, u16(0)]))
  }
}

/** With as many descriptors, the right ones first. */
function sendWith(count: number, send: (fds: number[]) => boolean, right: readonly number[]): boolean {
  const own = Array.from({ length: Math.max(0, count - right.length) }, newEventfd)
  const sent = send([...right, ...own].slice(0, count))
  closeDescriptors(own)
  return sent
}

const listener = listenAt(path, 8)
say('listening')
while (Atomics.load(words, FAKE.STOP) === 0) {
  if (waitFor(listener, POLL.IN, 20) === 0) continue
  const fd = acceptFrom(listener)
  if (fd < 0) continue
  const wire = new Wire(fd)
  serve(wire)
  wire.close()
  say('left')
}
fs.closeSync(listener)
