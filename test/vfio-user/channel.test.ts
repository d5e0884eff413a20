// The client's end of the socket by itself: what is in the socket when its time is over.

import fs from 'node:fs'
import test from 'ava'
import { POLL } from '../../lib/sys/libc.ts'
import { Channel, type Request } from '../../lib/vfio-user/channel.ts'
import { COMMAND } from '../../lib/vfio-user/constants.ts'
import {
  acceptFrom,
  closeDescriptors,
  connectTo,
  listenAt,
  send,
  waitFor,
} from '../../lib/vfio-user/socket.ts'
import { encodeMessage } from '../../lib/vfio-user/structs.ts'
import { newSocketPath } from '../support/server.ts'
import { newEventfd } from './wire.ts'

const command = COMMAND.GET_REGION_INFO
const REPLY = 1
const request: Request<{ payload: Buffer; fds: number[] }> = {
  command,
  payload: Buffer.alloc(0),
  maxFds: 1,
  decode: (payload, fds) => ({ payload, fds }),
}

/** A channel whose requests have no time at all, and the server's end of it. */
function connect(): { channel: Channel; server: number; end(): void } {
  const path = newSocketPath()
  const listener = listenAt(path, 1)
  const channel = new Channel(connectTo(path), 'test', 0)
  waitFor(listener, POLL.IN, 10_000)
  const server = acceptFrom(listener)
  fs.closeSync(listener)
  const end = () => {
    channel.close()
    closeDescriptors([server])
  }
  return { channel, server, end }
}

test('a reply that comes as time runs out is taken, with its descriptors', (t) => {
  const { channel, server, end } = connect()
  const own = newEventfd()
  send(server, encodeMessage({ id: 0, command, flags: REPLY }, Buffer.from('data')), [own])
  const { payload, fds } = channel.requestNow(request, 0)
  t.is(payload.toString(), 'data')
  t.is(fds.length, 1)
  closeDescriptors([...fds, own])
  end()
})

test('a server that asks and does not answer has no more time for that', (t) => {
  const { channel, server, end } = connect()
  send(server, encodeMessage({ id: 9, command, flags: 0 }, Buffer.alloc(4)), [])
  t.throws(() => channel.requestNow(request, 0), {
    code: 'ERR_UNVME_PROTOCOL',
    message: /no answer within 0 ms/,
  })
  end()
})
