// How often a controller is restarted before it is given up.

import test from 'ava'
import { CommandTimeoutError, ControllerFatalError, DeviceRemovedError } from '../../lib/errors.ts'
import { type RecoverableController, Recovery, type RecoveryEvent } from '../../lib/nvme/host/recovery.ts'

const fatal = new ControllerFatalError('fatal')
const gone = new DeviceRemovedError('gone')

/** Recovers a controller whose restarts end with these errors, one after the other, and then well. */
async function recover(errors: readonly Error[], reconnect?: number) {
  const left = [...errors]
  const kinds: string[] = []
  const state = { failure: null as Error | null, away: false }
  const controller: RecoverableController = {
    transport: { address: 'fake' },
    identity: undefined,
    timeout: 1000,
    closed: false,
    ...(reconnect === undefined ? {} : { reconnect }),
    get failure() {
      return state.failure
    },
    get away() {
      return state.away
    },
    fail(cause) {
      state.failure = cause
    },
    async restart(how) {
      kinds.push(how)
      const error = left.shift()
      state.away = error === gone
      if (error !== undefined) throw error
    },
  }
  const recovery = new Recovery(controller, () => Promise.reject(new Error('none is sent')), 'reset')
  const events: RecoveryEvent['kind'][] = []
  recovery.onEvent(({ kind }) => events.push(kind))
  recovery.begin(fatal)
  await recovery.running
  return { kinds, events, failure: state.failure }
}

test('a controller that fails each time is given up after three restarts, every other one of the function', async (t) => {
  const timeout = new CommandTimeoutError('no answer')
  t.deepEqual(await recover([fatal, timeout]), {
    kinds: ['controller', 'function', 'controller'],
    events: ['reset'],
    failure: null,
  })
  t.like(await recover([fatal, timeout, fatal]), { events: ['failed'], failure: fatal })
  t.like(await recover([new Error('nothing that may pass')]), { kinds: ['controller'], events: ['failed'] })
})

test('a device that goes again and again meanwhile has as long as one that does not come back', async (t) => {
  const often = new Array<Error>(20).fill(gone)
  t.like(await recover(often, 60_000), { events: ['reset'], failure: null })
  t.like(await recover([fatal, ...often, fatal], 60_000), { events: ['reset'], failure: null })
  t.like(await recover([fatal, ...often, fatal, fatal], 60_000), { events: ['failed'], failure: fatal })
  t.like(await recover(often, 0), { kinds: { length: 3 }, events: ['failed'], failure: gone })
})
