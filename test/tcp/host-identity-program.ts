// Prints the identity that this process finds; its argument stands for /etc/nvme.

import { findHostIdentity } from '../../lib/nvme/tcp/host-identity.ts'

try {
  process.stdout.write(JSON.stringify(findHostIdentity({}, process.argv[2])))
} catch (error) {
  const { code, message } = error as NodeJS.ErrnoException
  process.stderr.write(`${code}: ${message}`)
  process.exitCode = 1
}
