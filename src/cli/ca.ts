import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { Failure } from '../core/failure.ts'
import { command, jsonOption } from './command.ts'
import { clientOptions, errorCode, placeOf } from './place.ts'
import { columnsOf, jsonText, safe } from './text.ts'

const { config, home } = clientOptions

export const caCommand = command({
  name: 'ca',
  summary: 'Shows the certificate that agents trust to use the proxy',
  options: { pem: { type: 'boolean', says: 'Prints the certificate alone.' }, ...jsonOption, config, home },
  notes: [
    'The proxy (`listen.proxy`) opens connections with certificates that this one signs. It is no secret; its key stays',
    'with the gateway. Programs are told of it in ways of their own:',
    '  SSL_CERT_FILE (OpenSSL, Python, Go), CURL_CA_BUNDLE, REQUESTS_CA_BUNDLE, NODE_EXTRA_CA_CERTS, GIT_SSL_CAINFO,',
    '  npm_config_cafile, PIP_CERT, CARGO_HTTP_CAINFO',
  ],
  examples: ['sallyport ca', 'sallyport ca --pem'],
  async run({ values }, io) {
    const folder = values.home === undefined ? placeOf(values, io)?.state : path.resolve(io.cwd, values.home)
    if (folder === undefined)
      throw new Failure('not_found', 'no sallyport.yaml here or above: change there, or give --config or --home')
    const file = path.join(folder, 'ca.pem')
    const certificate = read(file)
    const [from, to] = [certificate.validFrom, certificate.validTo].map((text) => new Date(text).toISOString())
    const fingerprint = certificate.fingerprint256
    if (values.json === true) io.out(jsonText({ file, fingerprint, from, to, pem: certificate.toString() }))
    else if (values.pem === true) io.out(certificate.toString().trimEnd())
    else
      io.out(
        columnsOf([
          ['file', safe(file)],
          ['name', safe(certificate.subject.split('\n').at(-1)?.replace(/^CN=/, '') ?? '')],
          ['sha256', fingerprint],
          ['until', to ?? ''],
        ]).join('\n'),
      )
    return 0
  },
})

function read(file: string): X509Certificate {
  try {
    return new X509Certificate(readFileSync(file))
  } catch (thrown) {
    const because =
      errorCode(thrown) === 'ENOENT'
        ? 'it is made when the gateway first starts with `listen.proxy`'
        : `it can’t be read (${errorCode(thrown)})`
    throw new Failure('not_found', `no certificate at ${safe(file)}: ${because}`, { cause: thrown })
  }
}
