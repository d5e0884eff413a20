// `unvme version`: as `unvme --version`, by nvme-cli's word.
// Trade-off: a command of its own, since -V behind a command is that command's.

import { defineCommand } from '../define.ts'
import { print } from '../output.ts'
import { version as versionText } from '../program.ts'

export const version = defineCommand({
  name: 'version',
  group: 'System',
  summary: 'Print the version',
  arguments: {},
  options: {},
  examples: [['version', 'as unvme --version']],
  run() {
    print(versionText())
  },
})
