// What happens to a controller that does not answer: Abort, then a reset, then on with what was in flight.

import { CommandTimeoutError, ControllerFatalError, UnsupportedError } from '../../errors.ts'
import { logger } from '../../log/index.ts'
import { ADMIN } from '../spec/opcodes.ts'
import type { ResetKind, SendAdmin } from './transport.ts'

const log = logger('recovery')

/**
 * What a controller's driver may do about a command without an answer, or a controller that is fatal:
 * `none`: the call rejects, and the command's identifier is out of use until an answer comes or somebody resets;
 * `abort`: an Abort is sent, which gives the identifier back where the controller knows the command;
 * `reset`: where that does not end the command, the controller is reset, and what was in flight is sent again.
 */
export type RecoveryPolicy = 'none' | 'abort' | 'reset'

export const RECOVERY_POLICIES: readonly RecoveryPolicy[] = ['none', 'abort', 'reset']

/** What the driver did about a fault, for `onRecovery`. */
export interface RecoveryEvent {
  /** `abort`: an Abort was sent; `reset`: the controller was reset; `failed`: it did not come back. */
  readonly kind: 'abort' | 'reset' | 'failed'
  /** What made it necessary; of `failed`: why the controller is given up. */
  readonly cause: Error
}

/** A command without an answer, as its queue knows it. */
export interface ExpiredCommand {
  /** The queue's id, and the identifier that the controller knows the command by. */
  readonly qid: number
  readonly id: number
  readonly cause: CommandTimeoutError
  /** Looks once more: true where it has ended, by itself or aborted. */
  ended(): boolean
  /** Ends the call; the identifier stays out of use. */
  giveUp(): void
}

/** Whoever has commands in flight. */
export interface QueueUser {
  /** Nothing is posted from then on, and nothing of what was in flight counts any more. */
  suspend(cause: Error): void | Promise<void>
  /**
   * Once the controller is back: throws where what is there now is not what was open.
   * @param send sends admin commands, which everybody else's wait for the end of this
   */
  verify?(send: SendAdmin): Promise<void>
  /** The queues are as new: posts again what may be posted again. */
  resume(): void
  /**
   * Of a device with several paths: other namespaces than before have none, or have had none for too long.
   * @param ended one of them has a path again. Otherwise this may come within a look for completions, in which nothing can
   * be posted
   */
  pausesChanged?(ended: boolean): void
}

/** A namespace has no path that can be used: nothing is posted to it, and what is in flight counts. */
export interface Pause {
  readonly cause: Error
  /** That has been so for longer than calls may wait: they are rejected with this. */
  readonly stalledBy: Error | null
}

/** Of a device with several paths, namespaces that have none now. */
export interface Pauses {
  /** 0 where every namespace has one. */
  readonly size: number
  of(nsid: number): Pause | undefined
}

/** What recovery needs of its controller. */
export interface RecoverableController {
  readonly transport: { readonly address: string }
  readonly identity: { readonly acl: number } | undefined
  readonly timeout: number
  readonly failure: Error | null
  readonly closed: boolean
  /** The device is gone, and a restart waits for it to come back. */
  readonly away?: boolean
  /** Milliseconds within which it has to. */
  readonly reconnect?: number
  /** It may come and go as often as it likes: its transport says when it is given up. */
  readonly patient?: boolean
  fail(cause: Error): void
  /** Resets and brings up again, without a word to those who wait for I/O. */
  restart(how: ResetKind, cause: Error): Promise<void>
}

// An Abort is answered at once by a controller that is well, and so is the command then.
const ABORT_MS = 5000
const LOOK_MS = 5
// How often a controller is reset for one fault before it is given up.
const RESTARTS = 3

export class Recovery {
  readonly policy: RecoveryPolicy
  /** Aborts that were sent, and resets that brought the controller back. */
  aborts = 0
  resets = 0
  readonly #controller: RecoverableController
  readonly #send: SendAdmin
  readonly #users = new Set<QueueUser>()
  readonly #handlers = new Set<(event: RecoveryEvent) => void>()
  #aborting = 0
  readonly #abortsWaiting: (() => void)[] = []
  #running: Promise<void> | null = null

  /** @param send goes out at once, also while the controller is being recovered */
  constructor(controller: RecoverableController, send: SendAdmin, policy: RecoveryPolicy) {
    this.#controller = controller
    this.#send = send
    this.policy = policy
  }

  /** Resolves when the controller is back, or given up; null where nothing is under way. */
  get running(): Promise<void> | null {
    return this.#running
  }

  /** One more who has commands in flight; returns what takes it out again. */
  add(user: QueueUser): () => void {
    this.#users.add(user)
    return () => this.#users.delete(user)
  }

  /** After a reset that somebody asked for: queues are as new, what was in flight has been rejected. */
  resumeUsers(): void {
    for (const user of this.#users) user.resume()
  }

  onEvent(handler: (event: RecoveryEvent) => void): () => void {
    this.#handlers.add(handler)
    return () => this.#handlers.delete(handler)
  }

  /** A command had no answer. False: nothing is done about it, and its queue gives it up. */
  expired(command: ExpiredCommand): boolean {
    if (this.policy === 'none' || this.#isOver) return false
    void this.#end(command)
    return true
  }

  /** The controller is fatal, or answers no admin command. False: nothing is done about it. */
  begin(cause: Error): boolean {
    if (this.policy !== 'reset' || this.#isOver) return false
    if (this.#running !== null) return true
    // It is under way before anybody is called back.
    let ended = () => {}
    this.#running = new Promise((resolve) => {
      ended = resolve
    })
    void this.#run(cause).finally(() => {
      this.#running = null
      ended()
    })
    return true
  }

  get #isOver(): boolean {
    return this.#controller.failure !== null || this.#controller.closed
  }

  async #end(command: ExpiredCommand): Promise<void> {
    const ended = await this.#abort(command).catch((error) => {
      log('%s: Abort of command %d of queue %d: %s', this.#address, command.id, command.qid, error.message)
      return command.ended()
    })
    // A reset that is under way has the command already.
    if (ended || this.#running !== null || this.#isOver) return
    if (!this.begin(command.cause)) command.giveUp()
  }

  // True where the command has ended.
  async #abort(command: ExpiredCommand): Promise<boolean> {
    await this.#abortSlot()
    try {
      if (this.#running !== null || command.ended()) return command.ended()
      this.aborts++
      this.#emit({ kind: 'abort', cause: command.cause })
      const limit = Math.min(this.#controller.timeout, ABORT_MS)
      const cdw10 = ((command.id << 16) | command.qid) >>> 0
      const until = performance.now() + limit
      const { result } = await within(limit, this.#send({ opcode: ADMIN.ABORT, cdw10 }))
      // Not aborted, so it was not found: it has ended, or never will.
      if ((result & 1) !== 0) return command.ended()
      while (!command.ended()) {
        if (performance.now() > until || this.#running !== null) return false
        await new Promise((resolve) => setTimeout(resolve, LOOK_MS))
      }
      return true
    } finally {
      const next = this.#abortsWaiting.shift()
      if (next === undefined) this.#aborting--
      else next()
    }
  }

  // Abort Command Limit: one more than ACL may be under way (section 5.1).
  async #abortSlot(): Promise<void> {
    const limit = (this.#controller.identity?.acl ?? 0) + 1
    if (this.#aborting < limit) this.#aborting++
    else await new Promise<void>((resolve) => this.#abortsWaiting.push(resolve))
  }

  async #run(cause: Error): Promise<void> {
    log('%s: is reset: %s', this.#address, cause.message)
    try {
      await Promise.all([...this.#users].map((user) => user.suspend(cause)))
      await this.#restart(cause)
      if (this.#isOver) return
      this.resets++
      this.resumeUsers()
      this.#emit({ kind: 'reset', cause })
    } catch (error) {
      log('%s: is given up: %s', this.#address, (error as Error).message)
      this.#emit({ kind: 'failed', cause: error as Error })
      this.#controller.fail(error as Error)
    }
  }

  // A controller may be fatal again, or be reset by somebody else, before its users go on.
  async #restart(cause: Error): Promise<void> {
    let how: ResetKind = 'controller'
    const restart = async () => {
      await this.#controller.restart(how, cause)
      for (const user of this.#users) await user.verify?.(this.#send)
    }
    await this.restartAgain(restart, (error) => {
      const unsupported = how === 'function' && error instanceof UnsupportedError
      const fault = error instanceof ControllerFatalError || error instanceof CommandTimeoutError
      const passing = fault || this.#controller.away === true
      if (this.#controller.closed || !(unsupported || passing)) return false
      log('%s: %s', this.#address, error.message)
      // Where the controller does not come back by itself, its function may.
      const patient = this.#controller.patient === true
      how = how === 'controller' && !unsupported && !patient ? 'function' : 'controller'
      return true
    })
  }

  /**
   * Restarts until that succeeds: where the policy is `reset` at most RESTARTS times, otherwise once. A device that goes
   * again meanwhile has not failed: this is no attempt while it may still come back.
   * @param mayPass whether another attempt may end better than with this error
   */
  async restartAgain(restart: () => Promise<void>, mayPass: (error: Error) => boolean): Promise<void> {
    const { reconnect = 0 } = this.#controller
    const until = performance.now() + reconnect
    let left = this.policy === 'reset' ? RESTARTS : 1
    for (;;) {
      try {
        return await restart()
      } catch (error) {
        const gone = this.#controller.away === true && performance.now() < until
        if (!gone && this.#controller.patient !== true) left--
        if (left === 0 || !mayPass(error as Error)) throw error
      }
    }
  }

  #emit(event: RecoveryEvent): void {
    for (const handler of this.#handlers) {
      try {
        handler(event)
      } catch (error) {
        // The listener's error is the program's, and no end of a recovery.
        process.nextTick(() => {
          throw error
        })
      }
    }
  }

  get #address(): string {
    return this.#controller.transport.address
  }
}

function within<T>(ms: number, promise: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const late = () => reject(new CommandTimeoutError(`Abort (admin) had no answer within ${ms} ms`))
    const timer = setTimeout(late, ms)
    promise.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}
