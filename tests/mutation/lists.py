"""What mutants.py cannot see by itself: rows of tables and limits that are checks (EXTRA), and mutants that change nothing that can be observed (EQUIVALENT), each with its reason."""

# (file, text that is there once, text in its place)
EXTRA = [
    ('verify.c', 'HASH_SHA256, 0, VERIFY_ED25519_ONLY, "ECDSA P-256 SHA-256"', 'HASH_SHA256, 0, 0, "ECDSA P-256 SHA-256"'),
    ('verify.c', '0, VERIFY_ED25519_ONLY, "ECDSA P-384 SHA-384"', '0, 0, "ECDSA P-384 SHA-384"'),
    ('verify.c', '0, VERIFY_ED25519_ONLY, "ECDSA P-384 SHA-256"', '0, 0, "ECDSA P-384 SHA-256"'),
    ('verify.c', '0, VERIFY_ED25519_ONLY, "ECDSA P-521 SHA-512"', '0, 0, "ECDSA P-521 SHA-512"'),
    ('verify.c', '0, VERIFY_ED25519_ONLY, "ECDSA P-521 SHA-256"', '0, 0, "ECDSA P-521 SHA-256"'),
    ('verify.c', '0, VERIFY_ED25519_ONLY, "RSA PKCS#1 v1.5 SHA-256"', '0, 0, "RSA PKCS#1 v1.5 SHA-256"'),
    ('verify.c', 'VERIFY_PSS, VERIFY_ED25519_ONLY, "RSA-PSS SHA-256"', '0, VERIFY_ED25519_ONLY, "RSA-PSS SHA-256"'),
    ('verify.c', 'VERIFY_PSS, VERIFY_ED25519_ONLY, "RSA-PSS SHA-256"', 'VERIFY_PSS, 0, "RSA-PSS SHA-256"'),
    ('verify.c', 'HASH_SHA256, 0, VERIFY_ED25519_ONLY, "RSA-PSS SHA-256"', 'HASH_SHA256, 0, 0, "RSA-PSS SHA-256"'),
    ('verify.c', '0, 0, VERIFY_ED25519_ONLY, "Ed25519ph"', '0, 0, 0, "Ed25519ph"'),
    ('key.c', 'RSA_BITS_MIN = 2048', 'RSA_BITS_MIN = 1024'),
    ('key.c', 'RSA_BITS_MIN = 2048', 'RSA_BITS_MIN = 2047'),
    ('key.c', 'RSA_BITS_MAX = 8192', 'RSA_BITS_MAX = 8193'),
    ('key.c', 'RSA_EXPONENT_BITS = 64', 'RSA_EXPONENT_BITS = 65'),
    ('key.c', 'RSA_SMALL_BITS = 3072', 'RSA_SMALL_BITS = 4096'),
    ('key.c', '{ NID_secp521r1, KEY_P521 } };', '{ NID_secp521r1, KEY_P521 }, { NID_secp256k1, KEY_P256 } };'),
    ('key.c', '{ NID_ED25519, KEY_ED25519 } };', '{ NID_ED25519, KEY_ED25519 }, { NID_ED448, KEY_ED25519 } };'),
    ('pem.c', '{ "PRIVATE KEY", "encrypted', '{ "encrypted'),
    ('pem.c', '"encrypted secret key", ', ''),
    ('pem.c', '"PuTTY-User-Key-File", ', ''),
    ('pem.c', ', "AGE-SECRET-KEY" }', ' }'),
    ('judge.c', 'BODY_BYTES_MAX = 1 << 20', 'BODY_BYTES_MAX = 1 << 21'),
    ('judge.c', '{ judge_simple, MANIFEST }', '{ judge_simple, MANIFEST | FILES | MODULE }'),
    ('judge.c', '[TRUST_FORM_BUNDLE] = { judge_bundle, MANIFEST }', '[TRUST_FORM_BUNDLE] = { judge_bundle, MANIFEST | FILES | MODULE }'),
    ('judge.c', '{ judge_embedded, MODULE }', '{ judge_embedded, MANIFEST | FILES | MODULE }'),
    ('judge.c', '{ judge_bundle, FILES }', '{ judge_bundle, MANIFEST | FILES | MODULE }'),
    ('judge.c', '{ judge_sidecar_sig, FILES | MODULE }', '{ judge_sidecar_sig, MANIFEST | FILES | MODULE }'),
    ('judge.c', '{ judge_sidecar_legacy, FILES }', '{ judge_sidecar_legacy, MANIFEST | FILES | MODULE }'),
    ('judge.c', '{ judge_sidecar_minisig, FILES }', '{ judge_sidecar_minisig, MANIFEST | FILES | MODULE }'),
    ('judge.c', 'judgement->budget->bytes -= size;', ''),
    ('judge.c', 'trust_proof_fini(&proof);', ''),
    ('policy.c', 'policy->options.formats &= (1u << TRUST_FORMATS) - 1;', ''),
    ('verify.c', 'budget->verifications--;', ''),
    ('verify.c', '                        ERR_clear_error();\n', ''),
]

# (file, function as regular expression, expression or "re:" and a regular expression, why nothing can be observed)
EQUIVALENT = []
