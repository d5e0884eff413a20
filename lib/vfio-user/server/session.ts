// One client of a server: reads its requests, answers each. Trade-off: a request that can't be met gets an error
// reply and nothing else happens; one that can't even be cut out of the stream ends the session.

import fs from 'node:fs'
import { SystemCallError } from '../../errors.ts'
import { logger } from '../../log/index.ts'
import { POLL } from '../../pci/libc.ts'
import { REGION_INFO_BYTES } from '../../pci/region.ts'
import {
  COMMAND,
  commandName,
  DEVICE_FLAGS,
  FLAGS,
  IRQ,
  IRQ_FLAGS,
  IRQS,
  MAJOR,
  MAX_MESSAGE_BYTES,
  MINOR,
  REGION,
  REGIONS,
} from '../constants.ts'
import { type Message, MessageReader } from '../reader.ts'
import { closeDescriptors, send, type Watch, waitFor, watch } from '../socket.ts'
import {
  decodeDmaMap,
  decodeDmaUnmap,
  decodeIrqInfo,
  decodeIrqSet,
  decodeRegionAccess,
  decodeRegionRequest,
  encodeDeviceInfo,
  encodeIrqInfo,
  encodeMessage,
  encodeRegion,
  encodeRegionAccess,
  type Header,
  REGION_ACCESS_BYTES,
} from '../structs.ts'
import { decodeVersion, encodeVersion, OUR_CAPABILITIES } from '../version.ts'
import type { ConfigModel } from './config-space.ts'
import type { ServedDevice } from './device.ts'
import { ServedInterrupts } from './interrupts.ts'
import { Mappings } from './mappings.ts'
import { errnoOf, Refusal } from './refusal.ts'
import type { Regions } from './regions.ts'

const log = logger('vfio-user')
const NOTHING = Buffer.alloc(0)
// A client that does not read its replies holds the server up for so long, once.
const SEND_MS = 500
// Then the event loop has a turn, and with it the device.
const MESSAGES_AT_ONCE = 64

export interface SessionParts {
  readonly device: ServedDevice
  readonly config: ConfigModel
  readonly regions: Regions
}

interface Reply {
  readonly payload: Buffer
  readonly fd?: number
}

const EMPTY: Reply = { payload: NOTHING }

export class Session {
  readonly #fd: number
  readonly #device: ServedDevice
  readonly #config: ConfigModel
  readonly #regions: Regions
  readonly #onEnd: () => void
  readonly #reader: MessageReader
  readonly #mappings: Mappings
  readonly #interrupts: ServedInterrupts
  readonly #doorbells: number | null
  #watch: Watch | undefined
  #negotiated = false
  #ended = false

  /** Takes over a connection. `onEnd` is called once, when it is closed. */
  constructor(fd: number, { device, config, regions }: SessionParts, onEnd: () => void) {
    this.#fd = fd
    this.#device = device
    this.#config = config
    this.#regions = regions
    this.#onEnd = onEnd
    this.#reader = new MessageReader(fd, MAX_MESSAGE_BYTES)
    this.#mappings = new Mappings(device)
    this.#interrupts = new ServedInterrupts(device.vectors)
    this.#doorbells = device.connected()
    device.setBusMaster(config.busMaster)
  }

  /** Serves the client from the event loop. */
  start(): void {
    this.#watch = watch(this.#fd, () => this.attend())
  }

  /** Answers what has come. */
  attend(): void {
    try {
      for (let i = 0; i < MESSAGES_AT_ONCE && !this.#ended; i++) {
        const message = this.#reader.next()
        if (message === 'more') return
        if (message === 'end') this.end('the client has gone')
        else this.#handle(message)
      }
    } catch (error) {
      // The stream can't be followed any further.
      const { header } = this.#reader
      if (header !== null) this.#refuse(header, new Refusal('EINVAL', String(error)))
      this.end(String(error))
    }
  }

  interrupt(vector: number): void {
    if (this.#config.msix) this.#interrupts.signal(vector)
  }

  end(why: string): void {
    if (this.#ended) return
    this.#ended = true
    log('end of a session: %s', why)
    this.#watch?.close()
    this.#device.setBusMaster(false)
    this.#device.disconnected()
    this.#mappings.clear()
    this.#interrupts.clear()
    this.#reader.close()
    fs.closeSync(this.#fd)
    this.#onEnd()
  }

  #handle({ header, payload, fds }: Message): void {
    try {
      // A reply, to what was never asked: nobody waits for an answer to that.
      if ((header.flags & FLAGS.TYPE) !== 0) return
      const reply = this.#execute(header.command, payload, fds)
      if ((header.flags & FLAGS.NO_REPLY) === 0) this.#reply(header, FLAGS.REPLY, reply)
    } catch (error) {
      this.#refuse(header, error)
    } finally {
      closeDescriptors(fds)
    }
  }

  #execute(command: number, payload: Buffer, fds: number[]): Reply {
    if (!this.#negotiated && command !== COMMAND.VERSION) {
      throw new Refusal('EINVAL', `${commandName(command)} before VERSION`)
    }
    switch (command) {
      case COMMAND.VERSION:
        return this.#version(payload)
      case COMMAND.DMA_MAP:
        this.#mappings.add(decodeDmaMap(payload), fds[0])
        return EMPTY
      case COMMAND.DMA_UNMAP:
        this.#mappings.remove(decodeDmaUnmap(payload))
        return { payload: payload.subarray(0, 24) }
      case COMMAND.GET_INFO:
        return {
          payload: encodeDeviceInfo({
            flags: DEVICE_FLAGS.RESET | DEVICE_FLAGS.PCI,
            regions: REGIONS,
            irqs: IRQS,
          }),
        }
      case COMMAND.GET_REGION_INFO:
        return this.#regionInfo(payload)
      case COMMAND.GET_IRQ_INFO:
        return this.#irqInfo(payload)
      case COMMAND.SET_IRQS:
        this.#interrupts.set(decodeIrqSet(payload), fds)
        return EMPTY
      case COMMAND.REGION_READ:
        return this.#read(payload)
      case COMMAND.REGION_WRITE:
        return this.#write(payload)
      case COMMAND.DEVICE_RESET:
        this.#device.reset()
        return EMPTY
      default:
        throw new Refusal('ENOTSUP', commandName(command))
    }
  }

  #version(payload: Buffer): Reply {
    const { major, minor } = decodeVersion(payload)
    if (this.#negotiated || major !== MAJOR) throw new Refusal('EINVAL', `VERSION ${major}.${minor}`)
    this.#negotiated = true
    const version = { major: MAJOR, minor: Math.min(minor, MINOR), capabilities: OUR_CAPABILITIES }
    return { payload: encodeVersion(version) }
  }

  #regionInfo(payload: Buffer): Reply {
    const { argsz, index } = decodeRegionRequest(payload)
    const whole = encodeRegion(this.#regions.describe(index, this.#doorbells !== null))
    if (whole.length > argsz) {
      // The structure alone says in argsz how much is needed for the rest.
      const start = whole.subarray(0, REGION_INFO_BYTES)
      start.writeUInt32LE(0, 12)
      return { payload: start }
    }
    if (index !== REGION.BAR0 || this.#doorbells === null) return { payload: whole }
    return { payload: whole, fd: this.#doorbells }
  }

  #irqInfo(payload: Buffer): Reply {
    const { index } = decodeIrqInfo(payload)
    if (index >= IRQS) throw new Refusal('EINVAL', `no interrupts of index ${index}`)
    const msix = index === IRQ.MSIX
    const count = msix ? this.#device.vectors : 0
    return { payload: encodeIrqInfo({ flags: msix ? IRQ_FLAGS.EVENTFD : 0, index, count }) }
  }

  #read(payload: Buffer): Reply {
    const access = decodeRegionAccess(payload)
    return { payload: encodeRegionAccess(access, this.#regions.read(access)) }
  }

  #write(payload: Buffer): Reply {
    const access = decodeRegionAccess(payload)
    this.#regions.write(access, payload.subarray(REGION_ACCESS_BYTES))
    return { payload: encodeRegionAccess(access) }
  }

  #refuse(header: Header, error: unknown): void {
    const errno = errnoOf(error)
    log('%s refused: %s', commandName(header.command), error)
    if ((header.flags & FLAGS.NO_REPLY) === 0) this.#reply(header, FLAGS.REPLY | FLAGS.ERROR, EMPTY, errno)
  }

  #reply({ id, command }: Header, flags: number, { payload, fd }: Reply, errno = 0): void {
    const message = encodeMessage({ id, command, flags }, payload, errno)
    try {
      for (let at = 0; at < message.length; ) {
        const sent = send(this.#fd, message.subarray(at), at === 0 && fd !== undefined ? [fd] : [])
        at += sent
        if (sent === 0 && waitFor(this.#fd, POLL.OUT, SEND_MS) === 0) {
          this.end('the client does not read its replies')
          return
        }
      }
    } catch (error) {
      if (!(error instanceof SystemCallError)) throw error
      this.end(error.message)
    }
  }
}
