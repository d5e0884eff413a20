// Every subcommand. Help and docs/cli.md keep this order in each group.
// All of them are loaded on a start (see load.ts), so a command imports the driver inside its `run`
// (`await import('../../index.ts')`): koffi alone takes 36 ms to load, and help needs none of it.

import type { CommandDefinition } from '../define.ts'
import { bench, benchCompare } from './bench.ts'
import { copy, read, verify, write } from './data.ts'
import { discover } from './discover.ts'
import { featureCommands } from './features.ts'
import { firmwareCommands } from './firmware.ts'
import { identifyCommands } from './identify.ts'
import { blockMap, wipe } from './images.ts'
import { ioCommands } from './io.ts'
import { keyCommands } from './keys.ts'
import { capturedLogCommands, logCommands } from './logs.ts'
import { maintenanceCommands, resetCommands } from './maintenance.ts'
import { namespaceCommands } from './namespaces.ts'
import { passthruCommands } from './passthru.ts'
import { serve } from './serve.ts'
import { setup } from './setup.ts'
import { info, list, listSubsys, version } from './system.ts'

export const commands: readonly CommandDefinition[] = [
  ...[list, listSubsys, discover, setup, info, serve, version],
  ...keyCommands,
  ...[read, write, copy, verify, blockMap, wipe],
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
