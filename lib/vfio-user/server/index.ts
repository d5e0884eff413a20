// The server's side of vfio-user: offers a device of this process to one client at a time.

export type { ServedDevice } from './device.ts'
export { serveDevice, type VfioUserServer } from './server.ts'
