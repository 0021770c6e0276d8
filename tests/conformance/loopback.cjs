// Preloaded into the suite's origin, which listens on every interface and has no setting for that: loopback only.
const { Server } = require('node:net')

const { listen } = Server.prototype
Server.prototype.listen = function (port, ...rest) {
  return listen.call(this, port, '127.0.0.1', ...rest)
}
