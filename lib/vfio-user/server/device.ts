// What a server needs of the device that it offers; src/servers/vfio-user makes one of the software controller.

export interface ServedDevice {
  /** MSI-X vectors, at least 1. */
  readonly vectors: number
  /** Size of BAR 0 in bytes: registers, and doorbells from 1000h on. */
  readonly barBytes: number
  readRegister(offset: number): number
  writeRegister(offset: number, value: number): void
  /**
   * Maps a part of a file for the device; it is closed after the call. What is thrown is the client's error reply.
   * The server has checked that it lies in the file, and overlaps nothing.
   */
  map(iova: number, bytes: number, fd: number, offset: number): void
  unmap(iova: number): void
  /** The bus master bit of configuration space. */
  setBusMaster(on: boolean): void
  /** As after power on, but for mappings. */
  reset(): void
  /**
   * A client has come. Returns the file that holds the doorbells, BAR 0 from 1000h on, for it to map; null where it
   * writes them by message. The server does not close it.
   */
  connected(): number | null
  /** It has gone: the device is as after power on. Its mappings are taken away after this. */
  disconnected(): void
}
