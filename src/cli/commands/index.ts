// Every subcommand: one file each, one line each here. Help and docs/cli.md keep this order in each group.
// Trade-off: all of them are loaded on every start, so a command imports the driver inside its `run`
// (`await import('../../index.ts')`): koffi alone takes 36 ms to load, and help needs none of it.

import type { CommandDefinition } from '../define.ts'
import { list } from './list.ts'
import { setup } from './setup.ts'

export const commands: readonly CommandDefinition[] = [list, setup]
