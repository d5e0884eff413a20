// vfio-user: PCI functions of another process over a UNIX socket, and the server's side of the same protocol.
// Version 0.1 with memory passed by descriptor; what would move data through the socket is left out.

export { isVfioUserAddress, parseVfioUserAddress, socketPath, type VfioUserAddress } from './address.ts'
export { VfioUserFunction } from './function.ts'
export { openConnection, openVfioUser, type VfioUserOptions } from './open.ts'
export { type ServedDevice, serveDevice, type VfioUserServer } from './server/index.ts'
