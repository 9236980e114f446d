// Signs and verifies with npm's @sigstore/sign and @sigstore/verify, offline: no log, no timestamps, the key alone.
//
// usage: NODE_PATH=PEERS/npm/node_modules node sigstore.js sign dsse|message KEY HASH FILE    the bundle on stdout; HASH: sha256 …, or none (Ed25519)
//        NODE_PATH=PEERS/npm/node_modules node sigstore.js verify PUBLIC-KEY BUNDLE [FILE]    FILE: what a message signature is of
// Exit: 0 signed, verified; 1 refused, with the reason on stderr.
'use strict';
const crypto = require('crypto');
const fs = require('fs');
const { bundleFromJSON, bundleToJSON } = require('@sigstore/bundle');
const { DSSEBundleBuilder, MessageSignatureBundleBuilder } = require('@sigstore/sign');
const { Verifier, toSignedEntity } = require('@sigstore/verify');

const hintOf = (key) => crypto.createHash('sha256').update(key.export({ type: 'spki', format: 'der' })).digest('base64');

async function sign(form, keyFile, hash, file) {
        const key = crypto.createPrivateKey(fs.readFileSync(keyFile)), publicKey = crypto.createPublicKey(key);
        const material = { $case: 'publicKey', publicKey: publicKey.export({ type: 'spki', format: 'pem' }), hint: hintOf(publicKey) };
        const signer = { sign: async (data) => ({ key: material, signature: crypto.sign(hash === 'none' ? null : hash, data, key) }) };
        const Builder = form === 'dsse' ? DSSEBundleBuilder : MessageSignatureBundleBuilder;
        const bundle = await new Builder({ signer, witnesses: [] }).create({ data: fs.readFileSync(file), type: form === 'dsse' ? 'application/vnd.in-toto+json' : undefined });
        process.stdout.write(JSON.stringify(bundleToJSON(bundle)));
}

async function verify(keyFile, bundleFile, file) {
        const publicKey = crypto.createPublicKey(fs.readFileSync(keyFile));
        const material = { certificateAuthorities: [], timestampAuthorities: [], tlogs: [], ctlogs: [], publicKey: () => ({ publicKey, validFor: () => true }) };
        const bundle = bundleFromJSON(JSON.parse(fs.readFileSync(bundleFile)));
        new Verifier(material, { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0 }).verify(toSignedEntity(bundle, file && fs.readFileSync(file)));
}

const [what, ...words] = process.argv.slice(2);
({ sign, verify })[what](...words).catch((error) => {
        console.error(`${error.name}: ${error.message}`);
        process.exit(1);
});
