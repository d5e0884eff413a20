// serve: the software controller for other processes.

export { type ServeOptions, type Server, serve } from './serve.ts'
