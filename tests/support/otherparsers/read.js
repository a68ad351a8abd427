// Reads bodies by busboy: JSON of names and base64 comes in, JSON of the parts of each body goes out.
const busboy = require('busboy');

// Gives null if the body is refused.
function read(body) {
  return new Promise((resolve) => {
    const parts = [];
    const base64 = (text) => Buffer.from(text ?? '', 'latin1').toString('base64');
    const parser = busboy({
      headers: { 'content-type': 'multipart/form-data; boundary=xyzzy' },
      defCharset: 'latin1',
      defParamCharset: 'latin1',
    });
    parser.on('field', (name, value) => {
      parts.push({ name: base64(name), content: base64(value) });
    });
    parser.on('file', (name, stream) => {
      const part = { name: base64(name), content: '' };
      const pieces = [];
      parts.push(part);
      stream.on('data', (piece) => pieces.push(piece));
      stream.on('error', () => resolve(null));
      stream.on('close', () => { part.content = Buffer.concat(pieces).toString('base64'); });
    });
    parser.on('error', () => resolve(null));
    parser.on('close', () => setImmediate(() => resolve(parts)));
    parser.end(body);
  });
}

async function main() {
  const pieces = [];
  for await (const piece of process.stdin) pieces.push(piece);
  const results = {};
  for (const [name, body] of Object.entries(JSON.parse(Buffer.concat(pieces)))) {
    results[name] = await read(Buffer.from(body, 'base64'));
  }
  process.stdout.write(JSON.stringify(results));
}

main();
