// Random numbers that a seed repeats: those of `unvme bench`.
// A file of its own, so that threads need not load what reads the command line.

export { Random } from '../../../src/bench/random.ts'
