// The steps that a binding takes, as data: performed one after the other, or printed by --dry-run.

import { setTimeout as sleep } from 'node:timers/promises'
import { AbortError, SetupError } from '../../lib/errors.ts'
import { throwIfAborted } from '../../lib/sys/abort.ts'
import type { Account, Machine } from '../system/machine.ts'

export type Step =
  | { kind: 'load'; module: string }
  /** `hold` is called right before; what it returns, right after. It throws where the write must not be done. */
  | { kind: 'write'; file: string; value: string; hold?: () => () => void }
  | { kind: 'chown'; file: string; account: Account }
  /** Polls until `ready`; after `timeout` milliseconds throws SetupError with what `problem` says. */
  | { kind: 'wait'; what: string; timeout: number; ready(): boolean; problem(): string }

/** The step as a line of a shell script. */
export function stepText(step: Step): string {
  switch (step.kind) {
    case 'load':
      return `modprobe ${step.module}`
    case 'write':
      return `echo ${step.value === '\n' ? '' : `${step.value} `}> ${step.file}`
    case 'chown':
      return `chown ${step.account.uid}:${step.account.gid} ${step.file}`
    case 'wait':
      return `# wait: ${step.what}`
  }
}

const POLL_INTERVAL = 10

/** Performs the steps in order. Throws at the first that fails, naming it. */
export async function perform(machine: Machine, steps: readonly Step[], signal?: AbortSignal): Promise<void> {
  for (const step of steps) {
    throwIfAborted(signal)
    if (step.kind === 'wait') await waitFor(step, signal)
    else act(machine, step)
  }
}

function act(machine: Machine, step: Exclude<Step, { kind: 'wait' }>): void {
  if (step.kind === 'load') {
    machine.loadModule(step.module)
    return
  }
  const release = step.kind === 'write' ? step.hold?.() : undefined
  try {
    if (step.kind === 'write') machine.write(step.file, step.value)
    else machine.chown(step.file, step.account)
  } catch (error) {
    const { code = 'failed' } = error as NodeJS.ErrnoException
    const hint = code === 'EACCES' || code === 'EPERM' ? ' (this needs root)' : ''
    throw new SetupError(`${stepText(step)}: ${code}${hint}`, { cause: error })
  } finally {
    release?.()
  }
}

async function waitFor(step: Extract<Step, { kind: 'wait' }>, signal?: AbortSignal): Promise<void> {
  const end = performance.now() + step.timeout
  while (!step.ready()) {
    if (performance.now() > end) throw new SetupError(step.problem())
    // An abort is seen by the next step, or by the caller: a device is never left half-way for a wait.
    await sleep(POLL_INTERVAL, undefined, { signal }).catch((error) => {
      throw new AbortError(error.cause)
    })
  }
}
