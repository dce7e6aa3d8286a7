// The aedes peer: the library behind Node's own TLS server, with passwords and topics checked.
// Arguments: TLS port, plain port, certificate, key, accounts file (a name a line), secret. Loopback only.
import { createHash, timingSafeEqual } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer as createPlain } from 'node:net'
import { createServer } from 'node:tls'
import { Aedes } from 'aedes'

const [port, plain, cert, key, accounts, secretFile] = process.argv.slice(2)
const digest = (name, secret) => createHash('sha256').update(name).update('\0').update(secret).digest()
const secret = readFileSync(secretFile)
const known = new Map(readFileSync(accounts, 'utf8').trim().split('\n').map(name => [name, digest(name, secret)]))

const mayUse = (client, topic) => topic.startsWith(`devices/${client.user}/`) || topic.startsWith('bench/') || client.user === 'listener'

const broker = await Aedes.createBroker({
  heartbeatInterval: 3_600_000,
  authenticate (client, username, password, done) {
    const expected = known.get(username)
    const ok = expected !== undefined && timingSafeEqual(expected, digest(username, password ?? ''))
    client.user = username
    done(null, ok)
  },
  authorizePublish (client, packet, done) {
    done(client === null || mayUse(client, packet.topic) ? null : new Error('not allowed'))
  },
  authorizeSubscribe (client, subscription, done) {
    done(null, mayUse(client, subscription.topic) ? subscription : null)
  }
})
createServer(
  { cert: readFileSync(cert), key: readFileSync(key), minVersion: 'TLSv1.3', noDelay: true },
  broker.handle
).listen(Number(port), '127.0.0.1')
createPlain({ noDelay: true }, broker.handle).listen(Number(plain), '127.0.0.1')
