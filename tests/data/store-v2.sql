-- The store of schema number 2, as it was released, with a VM that runs and one that does not.
CREATE TABLE vm ( id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, state TEXT NOT NULL, reason TEXT NOT NULL,
    state_since_ms INTEGER NOT NULL, incarnation INTEGER NOT NULL, image_name TEXT NOT NULL,
    image_digest TEXT NOT NULL REFERENCES image(digest), kernel_name TEXT NOT NULL,
    kernel_digest TEXT NOT NULL REFERENCES kernel(digest), vmm TEXT NOT NULL, vmm_version TEXT NOT NULL,
    accel TEXT NOT NULL, accel_why TEXT NOT NULL, vcpus INTEGER NOT NULL, memory_mib INTEGER NOT NULL,
    disk_bytes INTEGER NOT NULL, auto_remove INTEGER NOT NULL, created_ms INTEGER NOT NULL,
    started_ms INTEGER NOT NULL, pid INTEGER NOT NULL, start_ticks INTEGER NOT NULL, boot_id TEXT NOT NULL,
    exit_code INTEGER NOT NULL, exit_signal INTEGER NOT NULL, timeline TEXT NOT NULL, labels TEXT NOT NULL,
    held INTEGER NOT NULL DEFAULT 1) STRICT;
CREATE TABLE image (digest TEXT PRIMARY KEY, created_ms INTEGER NOT NULL, size_bytes INTEGER NOT NULL,
    version TEXT NOT NULL, config TEXT NOT NULL) STRICT;
CREATE TABLE image_name (name TEXT PRIMARY KEY,
    digest TEXT NOT NULL REFERENCES image(digest) ON DELETE CASCADE) STRICT;
CREATE TABLE kernel (digest TEXT PRIMARY KEY, created_ms INTEGER NOT NULL, size_bytes INTEGER NOT NULL,
    version TEXT NOT NULL, config TEXT NOT NULL) STRICT;
CREATE TABLE kernel_name (name TEXT PRIMARY KEY,
    digest TEXT NOT NULL REFERENCES kernel(digest) ON DELETE CASCADE) STRICT;
INSERT INTO image VALUES ('sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 1, 1,
    '', '{}');
INSERT INTO kernel VALUES ('sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc', 1, 1,
    '', '{}');
INSERT INTO vm VALUES ('11111111111111111111111111111111', 'one', 'running', '', 1, 3, 'i',
    'sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'k',
    'sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc', 'qemu', '7', 'tcg', '', 1,
    512, 4096, 0, 1, 1, 4711, 99, 'boot', -1, 0, '[]', '{}', 1);
INSERT INTO vm VALUES ('22222222222222222222222222222222', 'two', 'stopped', 'user', 1, 1, 'i',
    'sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'k',
    'sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc', 'qemu', '7', 'tcg', '', 1,
    512, 4096, 0, 2, 1, 0, 0, 'boot', 0, 0, '[]', '{}', 1);
PRAGMA user_version = 2;
