// Whether commands take the slower way, on which they may be delayed, go wrong, be refused, or go to a backing.
// One flag, brought up to date by whoever changes a reason for it, instead of four tests per command.

import type { Controller } from '../model/controller.ts'

/** To be called after a change of latency, faults or sanitize operation. */
export function updateSlowPath(c: Controller): void {
  const { latency } = c.pending
  c.slowPath =
    c.backed !== null || latency.max > 0 || c.faults.rules.length > 0 || c.background.sanitizing !== null
}

/** To be called after rules were added: what a cut of the power may lose is noted from the first of its kind on. */
export function prepareCut({ faults, medium, allocated }: Controller): void {
  if (!faults.rules.some(({ rule }) => rule.action.kind === 'cut')) return
  medium.recordUnflushed?.(Math.max(...[...allocated.values()].map(({ blockBytes }) => blockBytes), 512))
}
