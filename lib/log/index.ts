// Log: debug namespaces `unvme:*`, and a log file where asked for (UNVMe writes /dev/shm/unvme.log).
// Trade-off: logging is for cold paths alone. A disabled call still costs some 20 ns, so nothing that runs
// for every command may call it; counters (`ns.stats`) are for that.

export { type HexDumper, hexDump, hexDumper, hexRow } from './hex.ts'
export { closeLogFile, type Logger, logger, openLogFile } from './log.ts'
