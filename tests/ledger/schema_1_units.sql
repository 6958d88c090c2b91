PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE IF NOT EXISTS "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO _sqlite_migrations VALUES(1,'station.manifest','schema_1','2026-11-24 09:26:02.045944+00:00');
CREATE TABLE station_version (          -- which versions of the station wrote here; this table never changes its form
    id       INTEGER PRIMARY KEY,
    version  TEXT NOT NULL,             -- of the distribution provisioning-station
    "schema" INTEGER NOT NULL,          -- the newest schema that version knows
    since    TEXT NOT NULL              -- UTC
) STRICT;
INSERT INTO station_version VALUES(1,'0.1.0',1,'2026-11-24T09:26:01.970Z');
CREATE TABLE production_order (
    id            INTEGER PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 64),
    product       TEXT NOT NULL,
    profile       TEXT NOT NULL,
    quantity      INTEGER NOT NULL CHECK (quantity > 0),
    serial_format TEXT NOT NULL,        -- a Python format with one field, {number}
    first_number  INTEGER NOT NULL CHECK (first_number >= 0),
    reserved      INTEGER NOT NULL DEFAULT 0,   -- units that took a product serial; the trigger unit_takes_budget counts
    opened_at     TEXT NOT NULL,
    CONSTRAINT budget CHECK (reserved BETWEEN 0 AND quantity)
) STRICT;
INSERT INTO production_order VALUES(1,'order-1','sensor','idevid',1000,'SN{number:06d}',1,7,'2026-11-24T09:26:02.096Z');
CREATE TABLE unit (
    id               INTEGER PRIMARY KEY,
    hardware_id      TEXT NOT NULL UNIQUE
                     CHECK (length(hardware_id) BETWEEN 1 AND 64 AND hardware_id NOT GLOB '*[^0-9A-Za-z._:-]*'),
    order_id         INTEGER NOT NULL REFERENCES production_order (id),
    product_serial   TEXT UNIQUE CHECK (length(product_serial) BETWEEN 1 AND 64),  -- NULL until a certificate is reserved
    model            TEXT NOT NULL CHECK (length(model) BETWEEN 1 AND 32 AND model NOT GLOB '*[^ -~]*'),
    firmware_version TEXT NOT NULL
                     CHECK (length(firmware_version) BETWEEN 1 AND 32 AND firmware_version NOT GLOB '*[^ -~]*'),
    firmware_sha256  BLOB NOT NULL CHECK (length(firmware_sha256) = 32),
    state            TEXT NOT NULL CHECK (state IN ('open', 'passed', 'failed')),
    attempts         INTEGER NOT NULL CHECK (attempts > 0),
    slot             TEXT NOT NULL,     -- where it was seen last
    first_seen_at    TEXT NOT NULL,
    changed_at       TEXT NOT NULL,
    failure_code     TEXT,
    failure_sentence TEXT,
    failure_step     TEXT,
    CHECK (state <> 'passed' OR product_serial IS NOT NULL),
    CHECK ((state = 'failed') = (failure_code IS NOT NULL)),
    CHECK ((failure_code IS NULL) = (failure_sentence IS NULL) AND (failure_code IS NULL) = (failure_step IS NULL))
) STRICT;
INSERT INTO unit VALUES(1,'intended',1,'SN000001','sensor','1.0.0',X'dae09b78adf5f10681844642c1f4c14038fbf2cba4a66f7b894f0196911b39a0','open',1,'1','2026-11-24T09:26:02.129Z','2026-11-24T09:26:02.135Z',NULL,NULL,NULL);
INSERT INTO unit VALUES(2,'retried',1,'SN000002','sensor','1.0.0',X'dae09b78adf5f10681844642c1f4c14038fbf2cba4a66f7b894f0196911b39a0','open',1,'1','2026-11-24T09:26:02.208Z','2026-11-24T09:26:02.215Z',NULL,NULL,NULL);
INSERT INTO unit VALUES(3,'recorded',1,'SN000003','sensor','1.0.0',X'dae09b78adf5f10681844642c1f4c14038fbf2cba4a66f7b894f0196911b39a0','open',1,'1','2026-11-24T09:26:02.238Z','2026-11-24T09:26:02.243Z',NULL,NULL,NULL);
INSERT INTO unit VALUES(4,'passed-0',1,'SN000004','sensor','1.0.0',X'dae09b78adf5f10681844642c1f4c14038fbf2cba4a66f7b894f0196911b39a0','passed',1,'1','2026-11-24T09:26:02.259Z','2026-11-24T09:26:02.282Z',NULL,NULL,NULL);
INSERT INTO unit VALUES(5,'passed-1',1,'SN000005','sensor','1.0.0',X'dae09b78adf5f10681844642c1f4c14038fbf2cba4a66f7b894f0196911b39a0','passed',1,'1','2026-11-24T09:26:02.283Z','2026-11-24T09:26:02.299Z',NULL,NULL,NULL);
INSERT INTO unit VALUES(6,'passed-2',1,'SN000006','sensor','1.0.0',X'dae09b78adf5f10681844642c1f4c14038fbf2cba4a66f7b894f0196911b39a0','passed',1,'1','2026-11-24T09:26:02.304Z','2026-11-24T09:26:02.311Z',NULL,NULL,NULL);
INSERT INTO unit VALUES(7,'open',1,NULL,'sensor','1.0.0',X'dae09b78adf5f10681844642c1f4c14038fbf2cba4a66f7b894f0196911b39a0','open',1,'1','2026-11-24T09:26:02.311Z','2026-11-24T09:26:02.311Z',NULL,NULL,NULL);
INSERT INTO unit VALUES(8,'failed',1,NULL,'sensor','1.0.0',X'dae09b78adf5f10681844642c1f4c14038fbf2cba4a66f7b894f0196911b39a0','failed',2,'1','2026-11-24T09:26:02.312Z','2026-11-24T09:26:02.314Z','link.no_answer','silent','key');
INSERT INTO unit VALUES(9,'voided',1,'SN000007','sensor','1.0.0',X'dae09b78adf5f10681844642c1f4c14038fbf2cba4a66f7b894f0196911b39a0','open',1,'1','2026-11-24T09:26:02.315Z','2026-11-24T09:26:02.315Z',NULL,NULL,NULL);
CREATE TABLE public_key (               -- a public key belongs to one unit, for ever, whatever becomes of its certificates
    spki_sha256 BLOB PRIMARY KEY CHECK (length(spki_sha256) = 32),     -- SHA-256 of SubjectPublicKeyInfo, RFC 5280 4.1
    unit_id     INTEGER NOT NULL REFERENCES unit (id)
) STRICT, WITHOUT ROWID;
INSERT INTO public_key VALUES(X'2d93e72c5012f102894620b6319cde0caa175c9923f47b68327c50c0907512be',3);
INSERT INTO public_key VALUES(X'366847b0be5e9532f7e3182f465f0454e07d091f4bba4727e41867af9753d3c6',1);
INSERT INTO public_key VALUES(X'3d45874141d4c8972625af410f7d19411245062109d1880fc7201b4bbfabdab1',4);
INSERT INTO public_key VALUES(X'5c497cf6e7f3d5aabeac41ee046d5a4572257f6bddee9bdaef9640d0c2e02112',9);
INSERT INTO public_key VALUES(X'8111ebe8744808a03d76644fabcfdee95d06f0bc286ca8c362e280da9d19cb1a',5);
INSERT INTO public_key VALUES(X'aef12bcc9281e2288b1e9d3e7b5d2933b6e222164ebf46e5dba4f0e5b3abaaa5',2);
INSERT INTO public_key VALUES(X'e851fe15db1d3090ea4b86368b379130aa0aa4581c2fcfc9ee7756f074f2af7c',6);
CREATE TABLE issuance (                 -- one certificate that was, or may have been, signed
    id                 INTEGER PRIMARY KEY,
    unit_id            INTEGER NOT NULL REFERENCES unit (id),
    state              TEXT NOT NULL CHECK (state IN ('intent', 'recorded', 'void')),
    spki_sha256        BLOB NOT NULL REFERENCES public_key (spki_sha256),
    certificate_serial TEXT NOT NULL UNIQUE     -- 20 octets as 40 hex digits: one spelling a number, sorts as a number
                       CHECK (length(certificate_serial) = 40 AND certificate_serial NOT GLOB '*[^0-9a-f]*'),
    tbs                BLOB NOT NULL CHECK (length(tbs) > 0),    -- TBSCertificate, the very bytes that the token signs
    tbs_sha256         BLOB NOT NULL CHECK (length(tbs_sha256) = 32),
    signing_tries      INTEGER NOT NULL CHECK (signing_tries > 0),   -- counted before the token is asked
    certificate        BLOB,            -- DER
    certificate_sha256 BLOB CHECK (length(certificate_sha256) = 32),
    intended_at        TEXT NOT NULL,
    changed_at         TEXT NOT NULL,
    void_reason        TEXT,
    CHECK ((certificate IS NULL) = (certificate_sha256 IS NULL)),
    CHECK (CASE state WHEN 'intent' THEN certificate IS NULL WHEN 'recorded' THEN certificate IS NOT NULL ELSE 1 END),
    CHECK ((state = 'void') = (void_reason IS NOT NULL)),
    -- a certificate is SEQUENCE { tbs, algorithm, signature }: the tbs starts after 2 to 6 octets of header
    CONSTRAINT holds_tbs CHECK (certificate IS NULL OR instr(certificate, tbs) BETWEEN 3 AND 7)
) STRICT;
INSERT INTO issuance VALUES(1,1,'intent',X'366847b0be5e9532f7e3182f465f0454e07d091f4bba4727e41867af9753d3c6','000000000ab5bc5c96aa4a401821ac74b0242018',X'3081dca00302010202100ab5bc5c96aa4a401821ac74b0242018300a06082a8648ce3d04030230273125302306035504030c1c536f66747761726520617574686f72697479206f6620612074657374301e170d3236313132343039323630325a170d3236313132353039323630325a30133111300f06035504030c08534e3030303030313059301306072a8648ce3d020106082a8648ce3d03010703420004660962783c9b10c085d012c546d6459904a87ae502d0aa8a0213971b1439a935da9b04f9e7d1de0ab612e446f02a393e77d0afd1780ddf2dd68970ef343c9f0a',X'66a83fcc1910d7d626147f2db631da46bddd9c961cdef254b7294d31a43455e9',1,NULL,NULL,'2026-11-24T09:26:02.135Z','2026-11-24T09:26:02.135Z',NULL);
INSERT INTO issuance VALUES(2,2,'intent',X'aef12bcc9281e2288b1e9d3e7b5d2933b6e222164ebf46e5dba4f0e5b3abaaa5','000000000405a3c3dd5b80ad3e541a9c0d91e177',X'3081dca00302010202100405a3c3dd5b80ad3e541a9c0d91e177300a06082a8648ce3d04030230273125302306035504030c1c536f66747761726520617574686f72697479206f6620612074657374301e170d3236313132343039323630325a170d3236313132353039323630325a30133111300f06035504030c08534e3030303030323059301306072a8648ce3d020106082a8648ce3d03010703420004cccc62d8b2ef5d4de0f73994c644dde4501b347d59955d59a963f7121e0ee4adbe6017193975bf5ac0d8027ec1759804649c5fc3f3f8b99478d9a9caf70e1070',X'ad38556dbd5655f3c9d8ff8133e3b43056a11657a8e314f74c89bc61ff87c4eb',2,NULL,NULL,'2026-11-24T09:26:02.215Z','2026-11-24T09:26:02.222Z',NULL);
INSERT INTO issuance VALUES(3,3,'recorded',X'2d93e72c5012f102894620b6319cde0caa175c9923f47b68327c50c0907512be','00000000069d77b7cd5e91db8ef8a58eb9a8880b',X'3081dca0030201020210069d77b7cd5e91db8ef8a58eb9a8880b300a06082a8648ce3d04030230273125302306035504030c1c536f66747761726520617574686f72697479206f6620612074657374301e170d3236313132343039323630325a170d3236313132353039323630325a30133111300f06035504030c08534e3030303030333059301306072a8648ce3d020106082a8648ce3d03010703420004d0378c28efe8c6d144042dcd56798b387e8fabfacdfca9f80b5d6b70e97ed6e17968125586b76a7d8ab85a9ae0393140e579740b2bf8ad2b3380f2292395863a',X'56ea9a3e53a82c648125db3ee1f0f6eebfb0d7ac3b1043bd5e5e4cbefee81376',1,X'308201343081dca0030201020210069d77b7cd5e91db8ef8a58eb9a8880b300a06082a8648ce3d04030230273125302306035504030c1c536f66747761726520617574686f72697479206f6620612074657374301e170d3236313132343039323630325a170d3236313132353039323630325a30133111300f06035504030c08534e3030303030333059301306072a8648ce3d020106082a8648ce3d03010703420004d0378c28efe8c6d144042dcd56798b387e8fabfacdfca9f80b5d6b70e97ed6e17968125586b76a7d8ab85a9ae0393140e579740b2bf8ad2b3380f2292395863a300a06082a8648ce3d040302034700304402204d1edeb87bc3bf9f71b5be230b773a425c60fc6d5de7b2ab7e5b1514a236769702201417512c20e3bfbc124aae6b81de0bb4dba30a27603573a803226d4dedef6002',X'c75b8aec9e5f441b99d995f8aa02bb52df6b4d71cb3d0c58ae09615f0b239de2','2026-11-24T09:26:02.243Z','2026-11-24T09:26:02.249Z',NULL);
INSERT INTO issuance VALUES(4,4,'recorded',X'3d45874141d4c8972625af410f7d19411245062109d1880fc7201b4bbfabdab1','00000000023a6fdbbe44e2f762433cf8e17659ca',X'3081dca0030201020210023a6fdbbe44e2f762433cf8e17659ca300a06082a8648ce3d04030230273125302306035504030c1c536f66747761726520617574686f72697479206f6620612074657374301e170d3236313132343039323630325a170d3236313132353039323630325a30133111300f06035504030c08534e3030303030343059301306072a8648ce3d020106082a8648ce3d0301070342000429a872c694fca045efefcb90a9f6cd875fea638244883655d7e0d79f3d0d59cfcce591dd77372eca9ebd31f949c57f97493b9957efb79663ef96135c9007c872',X'afadb679d10b66746b634512d3ff5375e90d2993abc57d3d31b8020f98d2bc4c',1,X'308201343081dca0030201020210023a6fdbbe44e2f762433cf8e17659ca300a06082a8648ce3d04030230273125302306035504030c1c536f66747761726520617574686f72697479206f6620612074657374301e170d3236313132343039323630325a170d3236313132353039323630325a30133111300f06035504030c08534e3030303030343059301306072a8648ce3d020106082a8648ce3d0301070342000429a872c694fca045efefcb90a9f6cd875fea638244883655d7e0d79f3d0d59cfcce591dd77372eca9ebd31f949c57f97493b9957efb79663ef96135c9007c872300a06082a8648ce3d040302034700304402202594e85b476c72fd6ed738fc8c49aa837b097b972eb7af44791a0c8026af2898022025030d27b70dc1b48dddd25bcd771eb6eeb23bef400bbfb57a4e4331284d79fa',X'a02a026e9d2edcd4479cf5129d0e7dcd23c43e8e06af3624455687082a230ad8','2026-11-24T09:26:02.267Z','2026-11-24T09:26:02.276Z',NULL);
INSERT INTO issuance VALUES(5,5,'recorded',X'8111ebe8744808a03d76644fabcfdee95d06f0bc286ca8c362e280da9d19cb1a','00000000314474f8a3c44fd4bd7c16778558c661',X'3081dca0030201020210314474f8a3c44fd4bd7c16778558c661300a06082a8648ce3d04030230273125302306035504030c1c536f66747761726520617574686f72697479206f6620612074657374301e170d3236313132343039323630325a170d3236313132353039323630325a30133111300f06035504030c08534e3030303030353059301306072a8648ce3d020106082a8648ce3d03010703420004f1af6e7d983379cc6ff5c2ec8d7e8ea344aab93dbb45c1e164cad28c7007edef07b61b52083a5c0ac759726bf812191b340f4dbc684036b23afab6d269e57aea',X'bae62576ab67f720955f60a6e9afe6a938f7e9416a73b617694c47c5b8f66f3f',1,X'308201363081dca0030201020210314474f8a3c44fd4bd7c16778558c661300a06082a8648ce3d04030230273125302306035504030c1c536f66747761726520617574686f72697479206f6620612074657374301e170d3236313132343039323630325a170d3236313132353039323630325a30133111300f06035504030c08534e3030303030353059301306072a8648ce3d020106082a8648ce3d03010703420004f1af6e7d983379cc6ff5c2ec8d7e8ea344aab93dbb45c1e164cad28c7007edef07b61b52083a5c0ac759726bf812191b340f4dbc684036b23afab6d269e57aea300a06082a8648ce3d0403020349003046022100d3eae6aac94ade80f84953aaf4fd07177a52099b81e9b5445f4ed85cfa6d0bed022100d60ff2448fbc65c758f047af1b9a98592530477af3b0babc8cb592e3068b06f9',X'0b881f01780c535b34bc8d13c3f4320ac8340182731f0d6b00054a59aa87db35','2026-11-24T09:26:02.287Z','2026-11-24T09:26:02.291Z',NULL);
INSERT INTO issuance VALUES(6,6,'recorded',X'e851fe15db1d3090ea4b86368b379130aa0aa4581c2fcfc9ee7756f074f2af7c','000000002d9d2016e36309186e1cecb35f984f5e',X'3081dca00302010202102d9d2016e36309186e1cecb35f984f5e300a06082a8648ce3d04030230273125302306035504030c1c536f66747761726520617574686f72697479206f6620612074657374301e170d3236313132343039323630325a170d3236313132353039323630325a30133111300f06035504030c08534e3030303030363059301306072a8648ce3d020106082a8648ce3d03010703420004dcda9b7c51253ad4044290c094a3bbc3b9cdd4432c2cb30c218aef0312d24d6789789cb247ce415c6e9f9cb7948e2fd679eb383ac38c38bbb7fdcc735c48c6de',X'e6cfdac08d0dba327bf3a744c526c8a5d2bf124f8c22a673a01ef7ac19e2071b',1,X'308201353081dca00302010202102d9d2016e36309186e1cecb35f984f5e300a06082a8648ce3d04030230273125302306035504030c1c536f66747761726520617574686f72697479206f6620612074657374301e170d3236313132343039323630325a170d3236313132353039323630325a30133111300f06035504030c08534e3030303030363059301306072a8648ce3d020106082a8648ce3d03010703420004dcda9b7c51253ad4044290c094a3bbc3b9cdd4432c2cb30c218aef0312d24d6789789cb247ce415c6e9f9cb7948e2fd679eb383ac38c38bbb7fdcc735c48c6de300a06082a8648ce3d04030203480030450220290c294a1b25c904f64ab2ed5ffe9c7fe9255e8999749335618bd996a1570f1502210080b25d491e6ed1c53ee653a7c4694a399ddc5381e8c061af8742e9bc4e0836e9',X'c4d199d833f5e361be274ee39e8ff3f25a922976483795137bb9d175e9991509','2026-11-24T09:26:02.304Z','2026-11-24T09:26:02.309Z',NULL);
INSERT INTO issuance VALUES(7,9,'void',X'5c497cf6e7f3d5aabeac41ee046d5a4572257f6bddee9bdaef9640d0c2e02112','000000002c7069d29317806ec1f111183d75161c',X'3081dca00302010202102c7069d29317806ec1f111183d75161c300a06082a8648ce3d04030230273125302306035504030c1c536f66747761726520617574686f72697479206f6620612074657374301e170d3236313132343039323630325a170d3236313132353039323630325a30133111300f06035504030c08534e3030303030373059301306072a8648ce3d020106082a8648ce3d030107034200049b7552df3f18c3c5ac9af1693d88b3b31de69665a5e1f40392bbaa20bcd6c8857a0b6f4c0a61f3c5e952bd36998a34e83fbe6ec2034c1ddc8dacc1ec4ab890b2',X'2afa16a7917247a77d5c020660ca824205ab89a86991c720925ba572184023b6',1,X'308201353081dca00302010202102c7069d29317806ec1f111183d75161c300a06082a8648ce3d04030230273125302306035504030c1c536f66747761726520617574686f72697479206f6620612074657374301e170d3236313132343039323630325a170d3236313132353039323630325a30133111300f06035504030c08534e3030303030373059301306072a8648ce3d020106082a8648ce3d030107034200049b7552df3f18c3c5ac9af1693d88b3b31de69665a5e1f40392bbaa20bcd6c8857a0b6f4c0a61f3c5e952bd36998a34e83fbe6ec2034c1ddc8dacc1ec4ab890b2300a06082a8648ce3d0403020348003045022100c7375777b847cf5932c05baedf7ea19631b190db5441fa7636fc19f0dd0b2b9002205068178aa93044fb3f17d1db65efaeb0a85fc3f1ef0dfa30101602e0e022a70b',X'944ef660244dfefd12098c2a5ba91aa82f64ba13d5a8dd6c23f422673b516e2e','2026-11-24T09:26:02.315Z','2026-11-24T09:26:02.334Z','board was erased');
CREATE TABLE proof (                    -- the evidence of a pass; writing it is passing
    issuance_id      INTEGER PRIMARY KEY REFERENCES issuance (id),
    challenge        BLOB NOT NULL CHECK (length(challenge) >= 16),
    message          BLOB NOT NULL CHECK (length(message) > 0),      -- what the board signed
    signature        BLOB NOT NULL CHECK (length(signature) > 0),
    read_back_sha256 BLOB NOT NULL CHECK (length(read_back_sha256) = 32),   -- of the certificate that the board gave back
    locks            INTEGER NOT NULL CHECK (locks >= 0),   -- as observed, a bit each: 1 debug port, 2 credential slot
    seconds          REAL NOT NULL CHECK (seconds >= 0),    -- from plug to pass
    at               TEXT NOT NULL
) STRICT;
INSERT INTO proof VALUES(4,X'892165050fb0b30b402f689c22b44192955a9b0b9ee3ce1354047c9cf5abab0a',X'892165050fb0b30b402f689c22b44192955a9b0b9ee3ce1354047c9cf5abab0a',X'304402207f3b8ab7e471f59b18954505bf21d13b00aa7c11b3b785b252b938f042d1f478022045e1a498f016381da80f8118f098e0c2e6ed2d477f396916a8b0af27f582ddc9',X'a02a026e9d2edcd4479cf5129d0e7dcd23c43e8e06af3624455687082a230ad8',3,1.5,'2026-11-24T09:26:02.282Z');
INSERT INTO proof VALUES(5,X'a57d86497dfdeb25c6c56055c9685f8216942f4e42ce13e1fe826e74b17506cc',X'a57d86497dfdeb25c6c56055c9685f8216942f4e42ce13e1fe826e74b17506cc',X'304502203ed6c38341859238bef315825aa47baec98af29185131619521ee78bf5c6d39d022100b8efe7f3431e479464e291b1a06d293a9551281a1d4497ef0bfa4adeca62ce6d',X'0b881f01780c535b34bc8d13c3f4320ac8340182731f0d6b00054a59aa87db35',3,1.5,'2026-11-24T09:26:02.299Z');
INSERT INTO proof VALUES(6,X'a2f4ab17b3f9bec3249d7f2c647cc6df69bfeb94e2f66b1521f10496a622a98c',X'a2f4ab17b3f9bec3249d7f2c647cc6df69bfeb94e2f66b1521f10496a622a98c',X'3045022052ef32a0f4ce274ad76578629b914f1155f5b089836b3e654d3c52b7357cd96a022100aef7ceb771263318a49e5f41cd59caffba4545ca4b3e9779bb0579b5dc31bf3e',X'c4d199d833f5e361be274ee39e8ff3f25a922976483795137bb9d175e9991509',3,1.5,'2026-11-24T09:26:02.311Z');
CREATE TABLE event (
    id      INTEGER PRIMARY KEY,        -- 1, 2, 3, ... without a gap: the leaf index of the ledger is id - 1
    at      TEXT NOT NULL CHECK (at IS strftime('%Y-%m-%dT%H:%M:%fZ', at)),  -- UTC, milliseconds; IS: no time is NULL
    unit_id INTEGER REFERENCES unit (id),
    slot    TEXT NOT NULL,
    step    TEXT NOT NULL,
    kind    TEXT NOT NULL,              -- 'journal' is written by the triggers below and by nobody else
    facts   TEXT NOT NULL CHECK (json_valid(facts))
) STRICT;
INSERT INTO event VALUES(1,'2026-11-24T09:26:02.096Z',NULL,'','order','journal','{"order":"order-1","product":"sensor","profile":"idevid","quantity":"1000","serial_format":"SN{number:06d}","first_number":"1"}');
INSERT INTO event VALUES(2,'2026-11-24T09:26:02.129Z',1,'1','begin','journal','{"hardware_id":"intended","order":"order-1","model":"sensor","firmware_version":"1.0.0","firmware_sha256":"dae09b78adf5f10681844642c1f4c14038fbf2cba4a66f7b894f0196911b39a0","attempts":"1"}');
INSERT INTO event VALUES(3,'2026-11-24T09:26:02.135Z',1,'1','intent','journal','{"issuance":"1","product_serial":"SN000001","certificate_serial":"000000000ab5bc5c96aa4a401821ac74b0242018","spki_sha256":"366847b0be5e9532f7e3182f465f0454e07d091f4bba4727e41867af9753d3c6","tbs_sha256":"66a83fcc1910d7d626147f2db631da46bddd9c961cdef254b7294d31a43455e9","signing_tries":"1"}');
INSERT INTO event VALUES(4,'2026-11-24T09:26:02.208Z',2,'1','begin','journal','{"hardware_id":"retried","order":"order-1","model":"sensor","firmware_version":"1.0.0","firmware_sha256":"dae09b78adf5f10681844642c1f4c14038fbf2cba4a66f7b894f0196911b39a0","attempts":"1"}');
INSERT INTO event VALUES(5,'2026-11-24T09:26:02.215Z',2,'1','intent','journal','{"issuance":"2","product_serial":"SN000002","certificate_serial":"000000000405a3c3dd5b80ad3e541a9c0d91e177","spki_sha256":"aef12bcc9281e2288b1e9d3e7b5d2933b6e222164ebf46e5dba4f0e5b3abaaa5","tbs_sha256":"ad38556dbd5655f3c9d8ff8133e3b43056a11657a8e314f74c89bc61ff87c4eb","signing_tries":"1"}');
INSERT INTO event VALUES(6,'2026-11-24T09:26:02.222Z',2,'1','intent','journal','{"issuance":"2","certificate_serial":"000000000405a3c3dd5b80ad3e541a9c0d91e177","signing_tries":"2"}');
INSERT INTO event VALUES(7,'2026-11-24T09:26:02.238Z',3,'1','begin','journal','{"hardware_id":"recorded","order":"order-1","model":"sensor","firmware_version":"1.0.0","firmware_sha256":"dae09b78adf5f10681844642c1f4c14038fbf2cba4a66f7b894f0196911b39a0","attempts":"1"}');
INSERT INTO event VALUES(8,'2026-11-24T09:26:02.243Z',3,'1','intent','journal','{"issuance":"3","product_serial":"SN000003","certificate_serial":"00000000069d77b7cd5e91db8ef8a58eb9a8880b","spki_sha256":"2d93e72c5012f102894620b6319cde0caa175c9923f47b68327c50c0907512be","tbs_sha256":"56ea9a3e53a82c648125db3ee1f0f6eebfb0d7ac3b1043bd5e5e4cbefee81376","signing_tries":"1"}');
INSERT INTO event VALUES(9,'2026-11-24T09:26:02.249Z',3,'1','record','journal','{"issuance":"3","certificate_serial":"00000000069d77b7cd5e91db8ef8a58eb9a8880b","certificate_sha256":"c75b8aec9e5f441b99d995f8aa02bb52df6b4d71cb3d0c58ae09615f0b239de2"}');
INSERT INTO event VALUES(10,'2026-11-24T09:26:02.259Z',4,'1','begin','journal','{"hardware_id":"passed-0","order":"order-1","model":"sensor","firmware_version":"1.0.0","firmware_sha256":"dae09b78adf5f10681844642c1f4c14038fbf2cba4a66f7b894f0196911b39a0","attempts":"1"}');
INSERT INTO event VALUES(11,'2026-11-24T09:26:02.267Z',4,'1','intent','journal','{"issuance":"4","product_serial":"SN000004","certificate_serial":"00000000023a6fdbbe44e2f762433cf8e17659ca","spki_sha256":"3d45874141d4c8972625af410f7d19411245062109d1880fc7201b4bbfabdab1","tbs_sha256":"afadb679d10b66746b634512d3ff5375e90d2993abc57d3d31b8020f98d2bc4c","signing_tries":"1"}');
INSERT INTO event VALUES(12,'2026-11-24T09:26:02.276Z',4,'1','record','journal','{"issuance":"4","certificate_serial":"00000000023a6fdbbe44e2f762433cf8e17659ca","certificate_sha256":"a02a026e9d2edcd4479cf5129d0e7dcd23c43e8e06af3624455687082a230ad8"}');
INSERT INTO event VALUES(13,'2026-11-24T09:26:02.282Z',4,'1','pass','journal','{"issuance":"4","product_serial":"SN000004","certificate_sha256":"a02a026e9d2edcd4479cf5129d0e7dcd23c43e8e06af3624455687082a230ad8","locks":"3"}');
INSERT INTO event VALUES(14,'2026-11-24T09:26:02.283Z',5,'1','begin','journal','{"hardware_id":"passed-1","order":"order-1","model":"sensor","firmware_version":"1.0.0","firmware_sha256":"dae09b78adf5f10681844642c1f4c14038fbf2cba4a66f7b894f0196911b39a0","attempts":"1"}');
INSERT INTO event VALUES(15,'2026-11-24T09:26:02.287Z',5,'1','intent','journal','{"issuance":"5","product_serial":"SN000005","certificate_serial":"00000000314474f8a3c44fd4bd7c16778558c661","spki_sha256":"8111ebe8744808a03d76644fabcfdee95d06f0bc286ca8c362e280da9d19cb1a","tbs_sha256":"bae62576ab67f720955f60a6e9afe6a938f7e9416a73b617694c47c5b8f66f3f","signing_tries":"1"}');
INSERT INTO event VALUES(16,'2026-11-24T09:26:02.291Z',5,'1','record','journal','{"issuance":"5","certificate_serial":"00000000314474f8a3c44fd4bd7c16778558c661","certificate_sha256":"0b881f01780c535b34bc8d13c3f4320ac8340182731f0d6b00054a59aa87db35"}');
INSERT INTO event VALUES(17,'2026-11-24T09:26:02.299Z',5,'1','pass','journal','{"issuance":"5","product_serial":"SN000005","certificate_sha256":"0b881f01780c535b34bc8d13c3f4320ac8340182731f0d6b00054a59aa87db35","locks":"3"}');
INSERT INTO event VALUES(18,'2026-11-24T09:26:02.304Z',6,'1','begin','journal','{"hardware_id":"passed-2","order":"order-1","model":"sensor","firmware_version":"1.0.0","firmware_sha256":"dae09b78adf5f10681844642c1f4c14038fbf2cba4a66f7b894f0196911b39a0","attempts":"1"}');
INSERT INTO event VALUES(19,'2026-11-24T09:26:02.304Z',6,'1','intent','journal','{"issuance":"6","product_serial":"SN000006","certificate_serial":"000000002d9d2016e36309186e1cecb35f984f5e","spki_sha256":"e851fe15db1d3090ea4b86368b379130aa0aa4581c2fcfc9ee7756f074f2af7c","tbs_sha256":"e6cfdac08d0dba327bf3a744c526c8a5d2bf124f8c22a673a01ef7ac19e2071b","signing_tries":"1"}');
INSERT INTO event VALUES(20,'2026-11-24T09:26:02.309Z',6,'1','record','journal','{"issuance":"6","certificate_serial":"000000002d9d2016e36309186e1cecb35f984f5e","certificate_sha256":"c4d199d833f5e361be274ee39e8ff3f25a922976483795137bb9d175e9991509"}');
INSERT INTO event VALUES(21,'2026-11-24T09:26:02.311Z',6,'1','pass','journal','{"issuance":"6","product_serial":"SN000006","certificate_sha256":"c4d199d833f5e361be274ee39e8ff3f25a922976483795137bb9d175e9991509","locks":"3"}');
INSERT INTO event VALUES(22,'2026-11-24T09:26:02.311Z',7,'1','begin','journal','{"hardware_id":"open","order":"order-1","model":"sensor","firmware_version":"1.0.0","firmware_sha256":"dae09b78adf5f10681844642c1f4c14038fbf2cba4a66f7b894f0196911b39a0","attempts":"1"}');
INSERT INTO event VALUES(23,'2026-11-24T09:26:02.312Z',8,'1','begin','journal','{"hardware_id":"failed","order":"order-1","model":"sensor","firmware_version":"1.0.0","firmware_sha256":"dae09b78adf5f10681844642c1f4c14038fbf2cba4a66f7b894f0196911b39a0","attempts":"1"}');
INSERT INTO event VALUES(24,'2026-11-24T09:26:02.313Z',8,'1','fail','journal','{"code":"link.no_answer","sentence":"silent","step":"key"}');
INSERT INTO event VALUES(25,'2026-11-24T09:26:02.313Z',8,'1','begin','journal','{"hardware_id":"failed","order":"order-1","model":"sensor","firmware_version":"1.0.0","firmware_sha256":"dae09b78adf5f10681844642c1f4c14038fbf2cba4a66f7b894f0196911b39a0","attempts":"2"}');
INSERT INTO event VALUES(26,'2026-11-24T09:26:02.314Z',8,'1','fail','journal','{"code":"link.no_answer","sentence":"silent","step":"key"}');
INSERT INTO event VALUES(27,'2026-11-24T09:26:02.315Z',9,'1','begin','journal','{"hardware_id":"voided","order":"order-1","model":"sensor","firmware_version":"1.0.0","firmware_sha256":"dae09b78adf5f10681844642c1f4c14038fbf2cba4a66f7b894f0196911b39a0","attempts":"1"}');
INSERT INTO event VALUES(28,'2026-11-24T09:26:02.315Z',9,'1','intent','journal','{"issuance":"7","product_serial":"SN000007","certificate_serial":"000000002c7069d29317806ec1f111183d75161c","spki_sha256":"5c497cf6e7f3d5aabeac41ee046d5a4572257f6bddee9bdaef9640d0c2e02112","tbs_sha256":"2afa16a7917247a77d5c020660ca824205ab89a86991c720925ba572184023b6","signing_tries":"1"}');
INSERT INTO event VALUES(29,'2026-11-24T09:26:02.333Z',9,'1','record','journal','{"issuance":"7","certificate_serial":"000000002c7069d29317806ec1f111183d75161c","certificate_sha256":"944ef660244dfefd12098c2a5ba91aa82f64ba13d5a8dd6c23f422673b516e2e"}');
INSERT INTO event VALUES(30,'2026-11-24T09:26:02.334Z',9,'1','void','journal','{"issuance":"7","certificate_serial":"000000002c7069d29317806ec1f111183d75161c","reason":"board was erased"}');
INSERT INTO event VALUES(31,'2026-11-24T09:26:02.336Z',NULL,'1','open','note','{"a": "b"}');
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE INDEX unit_by_order ON unit (order_id, state);
CREATE UNIQUE INDEX one_live_issuance ON issuance (unit_id) WHERE state <> 'void';
CREATE INDEX void_issuance ON issuance (unit_id) WHERE state = 'void';
CREATE INDEX event_by_unit ON event (unit_id) WHERE unit_id IS NOT NULL;
CREATE TRIGGER event_no_replace BEFORE INSERT ON event WHEN EXISTS (SELECT 1 FROM event WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'manifest.event_final: an event is never replaced'); END;
CREATE TRIGGER event_has_a_time BEFORE INSERT ON event WHEN NEW.at IS NOT strftime('%Y-%m-%dT%H:%M:%fZ', NEW.at)
BEGIN SELECT RAISE(ABORT, 'manifest.event_time: the time of an event is UTC with milliseconds, ending in Z'); END;
CREATE TRIGGER event_follows AFTER INSERT ON event
WHEN NEW.id <> 1 AND NOT EXISTS (SELECT 1 FROM event WHERE id = NEW.id - 1 AND at <= NEW.at)
BEGIN SELECT RAISE(ABORT, 'manifest.event_order: an event follows the last one, and is not older than it'); END;
CREATE TRIGGER event_no_update BEFORE UPDATE ON event
BEGIN SELECT RAISE(ABORT, 'manifest.event_final: an event never changes'); END;
CREATE TRIGGER event_no_delete BEFORE DELETE ON event
BEGIN SELECT RAISE(ABORT, 'manifest.never_deleted: an event is never deleted'); END;
CREATE TRIGGER station_version_no_replace BEFORE INSERT ON station_version
WHEN EXISTS (SELECT 1 FROM station_version WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'manifest.version_final: a version row is never replaced'); END;
CREATE TRIGGER station_version_no_update BEFORE UPDATE ON station_version
BEGIN SELECT RAISE(ABORT, 'manifest.version_final: a version row never changes'); END;
CREATE TRIGGER station_version_no_delete BEFORE DELETE ON station_version
BEGIN SELECT RAISE(ABORT, 'manifest.never_deleted: a version row is never deleted'); END;
CREATE TRIGGER order_no_replace BEFORE INSERT ON production_order
WHEN EXISTS (SELECT 1 FROM production_order WHERE id = NEW.id OR name = NEW.name)
BEGIN SELECT RAISE(ABORT, 'manifest.order_exists: an order is never replaced'); END;
CREATE TRIGGER order_starts_unused BEFORE INSERT ON production_order WHEN NEW.reserved <> 0
BEGIN SELECT RAISE(ABORT, 'manifest.order_budget: an order starts with nothing reserved'); END;
CREATE TRIGGER order_keeps_terms BEFORE UPDATE ON production_order
WHEN NEW.id IS NOT OLD.id OR NEW.name IS NOT OLD.name OR NEW.product IS NOT OLD.product
  OR NEW.profile IS NOT OLD.profile OR NEW.quantity IS NOT OLD.quantity OR NEW.serial_format IS NOT OLD.serial_format
  OR NEW.first_number IS NOT OLD.first_number OR NEW.opened_at IS NOT OLD.opened_at
BEGIN SELECT RAISE(ABORT, 'manifest.order_differs: the terms of an order never change'); END;
CREATE TRIGGER order_budget_only_falls BEFORE UPDATE ON production_order WHEN NEW.reserved < OLD.reserved
BEGIN SELECT RAISE(ABORT, 'manifest.order_budget: what is reserved stays reserved'); END;
CREATE TRIGGER order_no_delete BEFORE DELETE ON production_order
BEGIN SELECT RAISE(ABORT, 'manifest.never_deleted: an order is never deleted'); END;
CREATE TRIGGER order_journal AFTER INSERT ON production_order
BEGIN
    INSERT INTO event (at, slot, step, kind, facts) VALUES (NEW.opened_at, '', 'order', 'journal', json_object(
        'order', NEW.name, 'product', NEW.product, 'profile', NEW.profile, 'quantity', CAST(NEW.quantity AS TEXT),
        'serial_format', NEW.serial_format, 'first_number', CAST(NEW.first_number AS TEXT)));
END;
CREATE TRIGGER unit_no_replace BEFORE INSERT ON unit
WHEN EXISTS (SELECT 1 FROM unit WHERE id = NEW.id OR hardware_id = NEW.hardware_id)
BEGIN SELECT RAISE(ABORT, 'manifest.duplicate_hardware: this hardware id has a row'); END;
CREATE TRIGGER unit_starts_open BEFORE INSERT ON unit
WHEN NEW.state <> 'open' OR NEW.product_serial IS NOT NULL OR NEW.attempts <> 1
BEGIN SELECT RAISE(ABORT, 'manifest.unit_start: a unit starts open, without a product serial'); END;
CREATE TRIGGER unit_keeps_identity BEFORE UPDATE ON unit
WHEN NEW.id IS NOT OLD.id OR NEW.hardware_id IS NOT OLD.hardware_id OR NEW.first_seen_at IS NOT OLD.first_seen_at
  OR NEW.attempts < OLD.attempts
BEGIN SELECT RAISE(ABORT, 'manifest.unit_identity: a unit keeps its hardware id and its count of attempts'); END;
CREATE TRIGGER unit_keeps_serial BEFORE UPDATE ON unit
WHEN OLD.product_serial IS NOT NULL
 AND (NEW.product_serial IS NOT OLD.product_serial OR NEW.order_id IS NOT OLD.order_id)
BEGIN SELECT RAISE(ABORT, 'manifest.unit_identity: a unit keeps its product serial and the order it came from'); END;
CREATE TRIGGER unit_serial_no_replace BEFORE UPDATE OF product_serial ON unit
WHEN EXISTS (SELECT 1 FROM unit WHERE product_serial = NEW.product_serial AND id <> OLD.id)
BEGIN SELECT RAISE(ABORT, 'manifest.product_serial_taken: another unit has this product serial'); END;
CREATE TRIGGER unit_passed_is_final BEFORE UPDATE ON unit WHEN OLD.state = 'passed'
BEGIN SELECT RAISE(ABORT, 'manifest.already_passed: a unit that passed does not change'); END;
CREATE TRIGGER unit_pass_needs_evidence BEFORE UPDATE OF state ON unit
WHEN NEW.state = 'passed' AND (OLD.state <> 'open' OR NOT EXISTS (
    SELECT 1 FROM issuance JOIN proof ON proof.issuance_id = issuance.id
    WHERE issuance.unit_id = OLD.id AND issuance.state <> 'void' AND issuance.state = 'recorded'
      AND proof.read_back_sha256 = issuance.certificate_sha256))
BEGIN SELECT RAISE(ABORT, 'manifest.no_evidence: a unit passes with the proof of its recorded certificate'); END;
CREATE TRIGGER unit_within_budget BEFORE UPDATE OF product_serial ON unit
WHEN OLD.product_serial IS NULL AND NEW.product_serial IS NOT NULL
 AND NOT EXISTS (SELECT 1 FROM production_order WHERE id = NEW.order_id AND reserved < quantity)
BEGIN SELECT RAISE(ABORT, 'manifest.order_exhausted: the quantity of the order is reached'); END;
CREATE TRIGGER unit_takes_budget AFTER UPDATE OF product_serial ON unit
WHEN OLD.product_serial IS NULL AND NEW.product_serial IS NOT NULL
BEGIN UPDATE production_order SET reserved = reserved + 1 WHERE id = NEW.order_id; END;
CREATE TRIGGER unit_no_delete BEFORE DELETE ON unit
BEGIN SELECT RAISE(ABORT, 'manifest.never_deleted: a unit is never deleted'); END;
CREATE TRIGGER unit_journal_first AFTER INSERT ON unit
BEGIN
    INSERT INTO event (at, unit_id, slot, step, kind, facts)
    SELECT NEW.changed_at, NEW.id, NEW.slot, 'begin', 'journal', json_object(
        'hardware_id', NEW.hardware_id, 'order', name, 'model', NEW.model, 'firmware_version', NEW.firmware_version,
        'firmware_sha256', lower(hex(NEW.firmware_sha256)), 'attempts', '1')
    FROM production_order WHERE id = NEW.order_id;
END;
CREATE TRIGGER unit_journal_again AFTER UPDATE OF attempts ON unit WHEN NEW.attempts > OLD.attempts
BEGIN
    INSERT INTO event (at, unit_id, slot, step, kind, facts)
    SELECT NEW.changed_at, NEW.id, NEW.slot, 'begin', 'journal', json_object(
        'hardware_id', NEW.hardware_id, 'order', name, 'model', NEW.model, 'firmware_version', NEW.firmware_version,
        'firmware_sha256', lower(hex(NEW.firmware_sha256)), 'attempts', CAST(NEW.attempts AS TEXT))
    FROM production_order WHERE id = NEW.order_id;
END;
CREATE TRIGGER unit_journal_fail AFTER UPDATE OF state ON unit WHEN NEW.state = 'failed'
BEGIN
    INSERT INTO event (at, unit_id, slot, step, kind, facts) VALUES (
        NEW.changed_at, NEW.id, NEW.slot, 'fail', 'journal', json_object(
        'code', NEW.failure_code, 'sentence', NEW.failure_sentence, 'step', NEW.failure_step));
END;
CREATE TRIGGER public_key_no_replace BEFORE INSERT ON public_key
WHEN EXISTS (SELECT 1 FROM public_key WHERE spki_sha256 = NEW.spki_sha256)
BEGIN SELECT RAISE(ABORT, 'manifest.duplicate_key: this public key has a unit'); END;
CREATE TRIGGER public_key_no_update BEFORE UPDATE ON public_key
BEGIN SELECT RAISE(ABORT, 'manifest.duplicate_key: a public key stays with its unit'); END;
CREATE TRIGGER public_key_no_delete BEFORE DELETE ON public_key
BEGIN SELECT RAISE(ABORT, 'manifest.never_deleted: a public key is never deleted'); END;
CREATE TRIGGER issuance_no_replace BEFORE INSERT ON issuance
WHEN EXISTS (SELECT 1 FROM issuance WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'manifest.issuance_final: an issuance is never replaced'); END;
CREATE TRIGGER issuance_serial_no_replace BEFORE INSERT ON issuance
WHEN EXISTS (SELECT 1 FROM issuance WHERE certificate_serial = NEW.certificate_serial)
BEGIN SELECT RAISE(ABORT, 'manifest.serial_collision: this certificate serial was given before'); END;
CREATE TRIGGER issuance_one_live BEFORE INSERT ON issuance
WHEN EXISTS (SELECT 1 FROM issuance WHERE unit_id = NEW.unit_id AND state <> 'void')
BEGIN SELECT RAISE(ABORT, 'manifest.issuance_live: the unit has an issuance that is not void'); END;
CREATE TRIGGER issuance_starts_as_intent BEFORE INSERT ON issuance
WHEN NEW.state <> 'intent' OR NEW.signing_tries <> 1 OR NOT EXISTS (
    SELECT 1 FROM unit WHERE id = NEW.unit_id AND state = 'open' AND product_serial IS NOT NULL)
BEGIN SELECT RAISE(ABORT, 'manifest.issuance_start: an issuance starts as intent, for an open unit with a serial'); END;
CREATE TRIGGER issuance_key_is_the_units BEFORE INSERT ON issuance
WHEN NOT EXISTS (SELECT 1 FROM public_key WHERE spki_sha256 = NEW.spki_sha256 AND unit_id = NEW.unit_id)
BEGIN SELECT RAISE(ABORT, 'manifest.duplicate_key: the public key is not one of this unit'); END;
CREATE TRIGGER issuance_keeps_content BEFORE UPDATE ON issuance
WHEN NEW.id IS NOT OLD.id OR NEW.unit_id IS NOT OLD.unit_id OR NEW.spki_sha256 IS NOT OLD.spki_sha256
  OR NEW.certificate_serial IS NOT OLD.certificate_serial OR NEW.tbs IS NOT OLD.tbs
  OR NEW.tbs_sha256 IS NOT OLD.tbs_sha256 OR NEW.intended_at IS NOT OLD.intended_at
  OR (OLD.certificate IS NOT NULL AND (NEW.certificate IS NOT OLD.certificate
                                       OR NEW.certificate_sha256 IS NOT OLD.certificate_sha256))
BEGIN SELECT RAISE(ABORT, 'manifest.issuance_final: what an issuance says never changes'); END;
CREATE TRIGGER issuance_moves_on BEFORE UPDATE ON issuance
WHEN NOT CASE OLD.state
    WHEN 'intent' THEN (NEW.state = 'intent' AND NEW.signing_tries = OLD.signing_tries + 1)
                    OR (NEW.state = 'recorded' AND NEW.signing_tries = OLD.signing_tries)
                    OR (NEW.state = 'void' AND NEW.signing_tries = OLD.signing_tries AND NEW.certificate IS NULL)
    WHEN 'recorded' THEN NEW.state = 'void' AND NEW.signing_tries = OLD.signing_tries
    ELSE 0 END
BEGIN SELECT RAISE(ABORT, 'manifest.issuance_state: an issuance goes from intent to recorded to void, never back'); END;
CREATE TRIGGER issuance_passed_stays BEFORE UPDATE OF state ON issuance
WHEN NEW.state = 'void' AND EXISTS (SELECT 1 FROM unit WHERE id = OLD.unit_id AND state = 'passed')
BEGIN SELECT RAISE(ABORT, 'manifest.already_passed: the certificate of a unit that passed is not voided'); END;
CREATE TRIGGER issuance_no_delete BEFORE DELETE ON issuance
BEGIN SELECT RAISE(ABORT, 'manifest.never_deleted: an issuance is never deleted'); END;
CREATE TRIGGER issuance_journal_intent AFTER INSERT ON issuance
BEGIN
    INSERT INTO event (at, unit_id, slot, step, kind, facts)
    SELECT NEW.changed_at, NEW.unit_id, slot, 'intent', 'journal', json_object(
        'issuance', CAST(NEW.id AS TEXT), 'product_serial', product_serial,
        'certificate_serial', NEW.certificate_serial, 'spki_sha256', lower(hex(NEW.spki_sha256)),
        'tbs_sha256', lower(hex(NEW.tbs_sha256)), 'signing_tries', '1')
    FROM unit WHERE id = NEW.unit_id;
END;
CREATE TRIGGER issuance_journal_again AFTER UPDATE OF signing_tries ON issuance
WHEN NEW.signing_tries > OLD.signing_tries
BEGIN
    INSERT INTO event (at, unit_id, slot, step, kind, facts)
    SELECT NEW.changed_at, NEW.unit_id, slot, 'intent', 'journal', json_object(
        'issuance', CAST(NEW.id AS TEXT), 'certificate_serial', NEW.certificate_serial,
        'signing_tries', CAST(NEW.signing_tries AS TEXT))
    FROM unit WHERE id = NEW.unit_id;
END;
CREATE TRIGGER issuance_journal_record AFTER UPDATE OF state ON issuance WHEN NEW.state = 'recorded'
BEGIN
    INSERT INTO event (at, unit_id, slot, step, kind, facts)
    SELECT NEW.changed_at, NEW.unit_id, slot, 'record', 'journal', json_object(
        'issuance', CAST(NEW.id AS TEXT), 'certificate_serial', NEW.certificate_serial,
        'certificate_sha256', lower(hex(NEW.certificate_sha256)))
    FROM unit WHERE id = NEW.unit_id;
END;
CREATE TRIGGER issuance_journal_void AFTER UPDATE OF state ON issuance WHEN NEW.state = 'void'
BEGIN
    INSERT INTO event (at, unit_id, slot, step, kind, facts)
    SELECT NEW.changed_at, NEW.unit_id, slot, 'void', 'journal', json_object(
        'issuance', CAST(NEW.id AS TEXT), 'certificate_serial', NEW.certificate_serial, 'reason', NEW.void_reason)
    FROM unit WHERE id = NEW.unit_id;
END;
CREATE TRIGGER proof_no_update BEFORE UPDATE ON proof
BEGIN SELECT RAISE(ABORT, 'manifest.proof_final: a proof never changes'); END;
CREATE TRIGGER proof_no_delete BEFORE DELETE ON proof
BEGIN SELECT RAISE(ABORT, 'manifest.never_deleted: a proof is never deleted'); END;
CREATE TRIGGER proof_passes AFTER INSERT ON proof
BEGIN
    UPDATE unit SET state = 'passed', changed_at = NEW.at
    WHERE id = (SELECT unit_id FROM issuance WHERE id = NEW.issuance_id);
    INSERT INTO event (at, unit_id, slot, step, kind, facts)
    SELECT NEW.at, unit.id, slot, 'pass', 'journal', json_object(
        'issuance', CAST(NEW.issuance_id AS TEXT), 'product_serial', product_serial,
        'certificate_sha256', lower(hex(NEW.read_back_sha256)), 'locks', CAST(NEW.locks AS TEXT))
    FROM unit JOIN issuance ON issuance.unit_id = unit.id WHERE issuance.id = NEW.issuance_id;
END;
COMMIT;
