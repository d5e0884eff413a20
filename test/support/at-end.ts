// Ends what a test has started and, where it failed half-way, has not ended: its file would never end otherwise.
// Once for all tests of a file, at its end, since tests of a file run side by side.

import test from 'ava'

const ends = new Set<() => Promise<void>>()

test.after.always(async () => {
  for (const end of ends) await end()
})

/** Calls `end` at the end of the file: also where that was done before, so that it must bear a second time. */
export function atEnd(end: () => Promise<void>): void {
  ends.add(end)
}
