// The client byte by byte: what it says to a server, in which order, and that nothing is left open after it.

import test from 'ava'
import { openVfioUser } from '../../lib/vfio-user/index.ts'
import { BAR_BYTES, MSIX_AT, VECTORS } from './fake-device.ts'
import { type FakeServer, startFake } from './fake-server.ts'
import { descriptorsOf, hex } from './wire.ts'

const FIRST_IOVA = '0000000001000000'

/** Requests as text: command, payload and descriptors, one after the other. */
const said = ({ requests }: FakeServer) =>
  requests.map(
    ({ command, payload, fds }) => `${command} ${payload.toString('hex')}${fds > 0 ? ` +${fds}` : ''}`,
  )

const access = (region: number, offset: number, count: number, data = '') =>
  Buffer.concat([le64(offset), le32(region), le32(count), hex(data)]).toString('hex')
const le32 = (n: number) => hex(n.toString(16).padStart(8, '0')).reverse()
const le64 = (n: number) => hex(n.toString(16).padStart(16, '0')).reverse()
const read = (region: number, offset: number, count: number) => `9 ${access(region, offset, count)}`
const write = (region: number, offset: number, data: string) =>
  `10 ${access(region, offset, data.length / 2, data)}`

const version = `1 00000100${Buffer.from('{"capabilities":{"max_msg_fds":8,"max_data_xfer_size":1048576}}\0').toString('hex')}`
const COMMAND_ON = write(7, 4, '0604')
const MSIX_OFF = [read(7, MSIX_AT + 2, 2), write(7, MSIX_AT + 2, '1000')]
const MSIX_ON = [read(7, MSIX_AT + 2, 2), write(7, MSIX_AT + 2, '1080')]

test.serial('a session, message for message', async (t) => {
  const fake = await startFake()
  const before = descriptorsOf()
  const fn = await openVfioUser(fake.path)
  t.is(fn.vectors, VECTORS)
  t.is(fn.notify, null, 'doorbells are memory')
  t.is(fn.doorbells.length, (BAR_BYTES - 0x1000) / 4)
  t.is(fn.readRegister(0x1c), 0)
  fn.writeRegister(0x14, 0x12345678)
  t.is(fn.readRegister(0x14), 0x12345678)
  const arena = fn.mapDma(2 ** 23)
  await fn.enableInterrupts(10, () => {})
  for (let i = 0; i < 1000; i++) fn.doorbells[i & 63] = i
  await fn.reset()
  fn.unmapDma(arena)
  t.is(fn.readRegister(0x14), 0x12345678, 'and whatever was asked for before has been answered')
  const second = fn.mapDma(4096)
  t.is(second.iova, arena.iova, 'given back')
  await fn.close()
  await fn.close()
  await fake.left()
  t.deepEqual(said(fake), [
    version,
    '4 10000000000000000000000000000000',
    // MSI-X vectors.
    '7 10000000000000000200000000000000',
    // Status, and capabilities up to MSI-X.
    ...[0x06, 0x34, 0x40, MSIX_AT].map((offset) => read(7, offset, 2)),
    // Memory, bus master, INTx off; MSI-X off: before anything of BAR 0.
    COMMAND_ON,
    ...MSIX_OFF,
    // Room for 4096 bytes of answer.
    `5 001000000000000000000000000000000000000000000000${'0'.repeat(16)}`,
    read(0, 0x1c, 4),
    write(0, 0x14, '78563412'),
    read(0, 0x14, 4),
    `2 20000000030000000000000000000000${FIRST_IOVA}0000800000000000 +1`,
    // Eight eventfds, then two, then MSI-X on.
    '8 1400000024000000020000000000000008000000 +8',
    '8 1400000024000000020000000800000002000000 +2',
    ...MSIX_ON,
    '13 ',
    COMMAND_ON,
    ...MSIX_ON,
    `3 1800000000000000${FIRST_IOVA}0000800000000000`,
    read(0, 0x14, 4),
    `2 20000000030000000000000000000000${FIRST_IOVA}0010000000000000 +1`,
    // Closing: bus master off, interrupts off, memory back.
    write(7, 4, '0204'),
    ...MSIX_OFF,
    '8 1400000021000000020000000000000000000000',
    `3 1800000000000000${FIRST_IOVA}0010000000000000`,
  ])
  t.deepEqual(descriptorsOf(), before, 'nothing is left open')
  await fake.stop()
})

test.serial('without interrupts MSI-X stays off, and no eventfd is sent', async (t) => {
  const fake = await startFake()
  const fn = await openVfioUser(fake.path)
  await fn.reset()
  await fn.close()
  await fake.left()
  t.false(said(fake).some((text) => text.startsWith('8 ')))
  t.false(said(fake).includes(MSIX_ON[1]!))
  t.deepEqual(said(fake).slice(-5), ['13 ', COMMAND_ON, ...MSIX_OFF, write(7, 4, '0204')])
  await fake.stop()
})

test.serial('descriptors that do not belong are closed: more than one with BAR 0', async (t) => {
  const fake = await startFake({ wrong: [{ command: 5, kind: 'descriptors', count: 3 }] })
  const before = descriptorsOf()
  const fn = await openVfioUser(fake.path)
  await fn.close()
  await fake.left()
  t.deepEqual(descriptorsOf(), before)
  await fake.stop()
})

test.serial('a server that sends a reply byte by byte, or asks in between, is understood', async (t) => {
  const fake = await startFake({
    wrong: [
      { command: 1, kind: 'dribble' },
      { command: 4, kind: 'ask' },
      { command: 9, after: 1, kind: 'dribble' },
    ],
  })
  const fn = await openVfioUser(fake.path)
  t.is(fn.vectors, VECTORS)
  await fn.close()
  await fake.stop()
})

test.serial('at most 64 mappings', async (t) => {
  const fake = await startFake()
  const fn = await openVfioUser(fake.path)
  for (let i = 0; i < 64; i++) fn.mapDma(4096)
  t.throws(() => fn.mapDma(4096), { code: 'ERR_UNVME_OUT_OF_MEMORY', message: /64 mappings/ })
  await fn.close()
  await fake.stop()
})

test.serial('memory that the server will not take, or not give back', async (t) => {
  const fake = await startFake({
    wrong: [
      { command: 2, kind: 'error', errno: 12 },
      { command: 3, kind: 'error', errno: 2 },
    ],
  })
  const fn = await openVfioUser(fake.path)
  const error = t.throws(() => fn.mapDma(4096), { code: 'ERR_UNVME_OUT_OF_MEMORY' })
  t.like(error?.cause, { code: 'ENOMEM', syscall: 'DMA_MAP' })
  const kept = fn.mapDma(2 ** 21)
  fn.unmapDma(kept)
  t.not(fn.mapDma(2 ** 21).iova, kept.iova, 'the server may still have it: the range is not used again')
  await fn.close()
  await fake.stop()
})

test.serial('interrupts that the server refuses; the function goes on', async (t) => {
  const fake = await startFake({ wrong: [{ command: 8, kind: 'error' }] })
  const before = descriptorsOf()
  const fn = await openVfioUser(fake.path)
  await t.throwsAsync(
    fn.enableInterrupts(2, () => {}),
    { code: 'EINVAL' },
  )
  await t.throwsAsync(
    fn.enableInterrupts(VECTORS + 1, () => {}),
    { code: 'ERR_OUT_OF_RANGE' },
  )
  await fn.enableInterrupts(2, () => {})
  t.is(fn.readRegister(0), 0)
  await fn.close()
  await fake.left()
  t.deepEqual(descriptorsOf(), before)
  await fake.stop()
})
