// `unvme reset` and `subsystem-reset`.
// Trade-off: every command enables the controller and shuts it down; these do it once more, and say that it is well.

import { adminCommand } from '../admin/command.ts'
import { print } from '../output.ts'

const command = (how: 'controller' | 'subsystem', name: string, summary: string, details: string) =>
  adminCommand({
    name,
    summary,
    details,
    options: {},
    examples: [[`${name} 0a:00.0`, 'and see that it comes back']],
    async run({ address, handle }) {
      const before = performance.now()
      await handle.reset(how)
      const text = how === 'controller' ? 'controller reset' : 'NVM subsystem reset'
      print(`${address}: ${text}, ready again after ${(performance.now() - before).toFixed(0)} ms`)
    },
  })

const reset = command(
  'controller',
  'reset',
  'Reset the controller, and bring it up again',
  'What lasts until a reset is as new: features that were not saved, firmware that was only sent, a short self-test.',
)

const subsystemReset = command(
  'subsystem',
  'subsystem-reset',
  'Reset the whole NVM subsystem: all of its controllers',
  'Controllers of the same subsystem that other processes or machines use are reset, too. Not every device has it.',
)

export const resetCommands = [reset, subsystemReset]
