#include "disk/rootdisk_priv.h"

#include <fcntl.h>

/*
 * The filesystem is made as large as it may become, and cut when its content is known. That is
 * simple because every group holds its own bitmaps and inode table (no flex_bg), the cursor fills
 * groups from the front, and there are no backups, journal or resize inode in later groups.
 */

static blk64_t group_tables_end(ext2_filsys fs, dgrp_t group)
{
    return ext2fs_inode_table_loc(fs, group) + fs->inode_blocks_per_group;
}

/* Blocks of the group descriptor table that fewer groups do not need. */
static void free_descriptor_blocks(ext2_filsys fs, unsigned long desc_blocks)
{
    blk64_t first = fs->super->s_first_data_block + 1 + desc_blocks;
    blk64_t count = fs->desc_blocks - desc_blocks;

    if (count > 0) {
        ext2fs_block_alloc_stats_range(fs, first, (blk_t)count, -1);
    }
    fs->desc_blocks = desc_blocks;
}

static errcode_t resize_maps(ext2_filsys fs, blk64_t blocks, dgrp_t groups)
{
    blk64_t real_end = (blk64_t)groups * EXT2_BLOCKS_PER_GROUP(fs->super) - 1;
    uint32_t inodes = fs->super->s_inodes_count;
    errcode_t code;

    real_end += fs->super->s_first_data_block;
    code = ext2fs_resize_block_bitmap2(blocks - 1, real_end, fs->block_map);
    return code ? code : ext2fs_resize_inode_bitmap2(inodes, inodes, fs->inode_map);
}

int rd_shrink(struct rootdisk *disk, struct err *err)
{
    ext2_filsys fs = disk->fs;
    struct ext2_super_block *super = fs->super;
    blk64_t blocks = disk->free_start; /* everything from the cursor on is free or tables */
    dgrp_t groups = ext2fs_group_of_blk2(fs, blocks - 1) + 1;
    dgrp_t inode_groups = ext2fs_group_of_ino(fs, disk->next_ino - 1) + 1;
    blk64_t cut, free_blocks = 0;
    uint64_t free_inodes = 0;
    dgrp_t last;
    errcode_t code;

    groups = groups > inode_groups ? groups : inode_groups;
    last = groups - 1;
    if (blocks < group_tables_end(fs, last)) {
        blocks = group_tables_end(fs, last);
    }
    cut = ext2fs_group_last_block2(fs, last) + 1 - blocks;
    free_descriptor_blocks(fs,
                           (groups + EXT2_DESC_PER_BLOCK(super) - 1) / EXT2_DESC_PER_BLOCK(super));
    ext2fs_bg_free_blocks_count_set(fs, last,
                                    ext2fs_bg_free_blocks_count(fs, last) - (uint32_t)cut);
    /* The bitmap of the last group is never implied, because it has padding. */
    ext2fs_bg_flags_clear(fs, last, EXT2_BG_BLOCK_UNINIT);
    ext2fs_group_desc_csum_set(fs, last);

    fs->group_desc_count = groups;
    ext2fs_blocks_count_set(super, blocks);
    super->s_inodes_count = super->s_inodes_per_group * groups;
    super->s_overhead_clusters = 0; /* the kernel counts it at mount */
    for (dgrp_t i = 0; i < groups; i++) {
        free_blocks += ext2fs_bg_free_blocks_count(fs, i);
        free_inodes += ext2fs_bg_free_inodes_count(fs, i);
    }
    ext2fs_free_blocks_count_set(super, free_blocks);
    super->s_free_inodes_count = (uint32_t)free_inodes;
    code = resize_maps(fs, blocks, groups);
    if (code) {
        return rd_err_ext2(err, code, "bitmaps");
    }
    ext2fs_mark_super_dirty(fs);
    ext2fs_mark_bb_dirty(fs);
    ext2fs_mark_ib_dirty(fs);
    return 0;
}

/* Best effort: where the host cannot punch, old data stays in the file, unreachable. */
void rd_punch_free(struct rootdisk *disk)
{
    blk64_t last = ext2fs_blocks_count(disk->fs->super) - 1;
    blk64_t at = disk->fs->super->s_first_data_block;

    while (at <= last) {
        blk64_t start = 0, end = 0;

        if (ext2fs_find_first_zero_block_bitmap2(disk->fs->block_map, at, last, &start)) {
            return;
        }
        if (ext2fs_find_first_set_block_bitmap2(disk->fs->block_map, start, last, &end)) {
            end = last + 1;
        }
        if (fallocate(disk->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                      (off_t)(start * RD_BLOCK), (off_t)((end - start) * RD_BLOCK)) < 0) {
            return;
        }
        at = end;
    }
}
