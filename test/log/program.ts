// Logs two lines: for log.test.ts. The argument is a log file.

import { closeLogFile, logger, openLogFile } from '../../lib/log/index.ts'

const [path] = process.argv.slice(2)
if (path !== undefined) openLogFile(path)
const one = logger('one')
console.log(one.enabled)
one('%d of %s', 7, 'eight')
logger('two')('%o', { a: 1 })
closeLogFile()
one('not in the file')
