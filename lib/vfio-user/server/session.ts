// One client of a server: reads its messages, has its requests executed, answers each.
// A request that can't be met gets an error reply and nothing else happens; one that can't even be cut
// out of the stream ends the session.

import { SystemCallError } from '../../errors.ts'
import { logger } from '../../log/index.ts'
import { close, POLL } from '../../sys/libc.ts'
import { COMMAND, commandName, FLAGS, MAJOR, MAX_MESSAGE_BYTES, MINOR } from '../constants.ts'
import { type Message, MessageReader } from '../reader.ts'
import { closeDescriptors, send, type Watch, waitFor, watch } from '../socket.ts'
import { encodeMessage, type Header } from '../structs.ts'
import { decodeVersion, encodeVersion, OUR_CAPABILITIES } from '../version.ts'
import type { ConfigModel } from './config-space.ts'
import type { ServedDevice } from './device.ts'
import { ServedInterrupts } from './interrupts.ts'
import { Mappings } from './mappings.ts'
import { errnoOf, Refusal } from './refusal.ts'
import type { Regions } from './regions.ts'
import { EMPTY, execute, type Reply, type Served } from './requests.ts'

const log = logger('vfio-user')
// A client that does not read its replies holds the server up for so long, once.
const SEND_MS = 500
// Then the event loop has a turn, and with it the device.
const MESSAGES_AT_ONCE = 64
// Whoever has not said VERSION by then lets others wait for nothing.
const SILENCE_MS = 2000

export interface SessionParts {
  readonly device: ServedDevice
  readonly config: ConfigModel
  readonly regions: Regions
}

export class Session {
  readonly #fd: number
  readonly #config: ConfigModel
  readonly #served: Served
  readonly #onEnd: () => void
  readonly #reader: MessageReader
  readonly #watch: Watch
  readonly #silence: NodeJS.Timeout
  #negotiated = false
  #ended = false

  /** Takes over a connection, and serves it from the event loop. `onEnd` is called once, when it is closed. */
  constructor(fd: number, { device, config, regions }: SessionParts, onEnd: () => void) {
    this.#fd = fd
    this.#config = config
    this.#onEnd = onEnd
    this.#reader = new MessageReader(fd, MAX_MESSAGE_BYTES)
    this.#served = {
      device,
      regions,
      mappings: new Mappings(device),
      interrupts: new ServedInterrupts(device.vectors),
      doorbells: device.connected(),
    }
    device.setBusMaster(config.busMaster)
    this.#watch = watch(fd, () => this.#attend())
    this.#silence = setTimeout(() => this.end('the client says nothing'), SILENCE_MS)
  }

  /** Signals a vector, where the client has turned that on. */
  interrupt(vector: number): void {
    if (this.#config.msix) this.#served.interrupts.signal(vector)
  }

  end(why: string): void {
    if (this.#ended) return
    this.#ended = true
    log('end of a session: %s', why)
    this.#watch.close()
    clearTimeout(this.#silence)
    const { device, mappings, interrupts } = this.#served
    device.setBusMaster(false)
    device.disconnected()
    mappings.clear()
    interrupts.clear()
    this.#reader.close()
    close(this.#fd)
    this.#onEnd()
  }

  // Answers what has come.
  #attend(): void {
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

  #handle({ header, payload, fds }: Message): void {
    try {
      const type = header.flags & FLAGS.TYPE
      // A reply, to what was never asked: no one waits for an answer to that.
      if (type === FLAGS.REPLY) return
      if (type !== 0) throw new Refusal('EINVAL', `a message of type ${type}`)
      const reply = this.#execute(header.command, payload, fds)
      if ((header.flags & FLAGS.NO_REPLY) === 0) this.#reply(header, FLAGS.REPLY, reply)
    } catch (error) {
      this.#refuse(header, error)
    } finally {
      closeDescriptors(fds)
    }
  }

  #execute(command: number, payload: Buffer, fds: number[]): Reply {
    if (command === COMMAND.VERSION) return this.#version(payload)
    if (!this.#negotiated) throw new Refusal('EINVAL', `${commandName(command)} before VERSION`)
    return execute(this.#served, command, payload, fds)
  }

  #version(payload: Buffer): Reply {
    const { major, minor } = decodeVersion(payload)
    if (this.#negotiated || major !== MAJOR) throw new Refusal('EINVAL', `VERSION ${major}.${minor}`)
    this.#negotiated = true
    clearTimeout(this.#silence)
    const version = { major: MAJOR, minor: Math.min(minor, MINOR), capabilities: OUR_CAPABILITIES }
    return { payload: encodeVersion(version) }
  }

  #refuse(header: Header, error: unknown): void {
    log('%s refused: %s', commandName(header.command), error)
    if ((header.flags & FLAGS.NO_REPLY) !== 0) return
    this.#reply(header, FLAGS.REPLY | FLAGS.ERROR, EMPTY, errnoOf(error))
  }

  #reply({ id, command }: Header, flags: number, { payload, fd }: Reply, errno = 0): void {
    if (this.#ended) return
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
