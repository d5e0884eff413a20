// Every subcommand. Help and docs/cli.md keep this order in each group.
// Trade-off: all of them are loaded on every start, so a command imports the driver inside its `run`
// (`await import('../../index.ts')`): koffi alone takes 36 ms to load, and help needs none of it.

import type { CommandDefinition } from '../define.ts'
import { bench } from './bench.ts'
import { benchCompare } from './bench-compare.ts'
import { capturedLogCommands } from './captured-logs.ts'
import { copy } from './copy.ts'
import { featureCommands } from './features.ts'
import { firmwareCommands } from './firmware.ts'
import { identifyCommands } from './identify.ts'
import { info } from './info.ts'
import { ioCommands } from './io.ts'
import { list } from './list.ts'
import { listSubsys } from './list-subsys.ts'
import { logCommands } from './logs.ts'
import { maintenanceCommands } from './maintenance.ts'
import { namespaceCommands } from './namespaces.ts'
import { passthruCommands } from './passthru.ts'
import { read } from './read.ts'
import { resetCommands } from './resets.ts'
import { serve } from './serve.ts'
import { setup } from './setup.ts'
import { verify } from './verify.ts'
import { version } from './version.ts'
import { write } from './write.ts'

export const commands: readonly CommandDefinition[] = [
  ...[list, listSubsys, setup, info, serve, version],
  ...[read, write, copy, verify],
  ...ioCommands,
  ...identifyCommands,
  ...logCommands,
  ...capturedLogCommands,
  ...featureCommands,
  ...[...maintenanceCommands, ...firmwareCommands, ...namespaceCommands, ...resetCommands],
  ...passthruCommands,
  bench,
  benchCompare,
]
