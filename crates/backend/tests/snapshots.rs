//! KV snapshots at the border of their folder: found by tokens, checked to the last byte, owned, evicted.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use backend::snapshots::{Disk, Doubt, Fingerprint, Saved, Snapshots};
use backend::{Error, ReuseLimit};
use engine::{KV_BLOCK, KvBlock, KvElement, KvLayout, KvTensor, TokenId};
use proptest::prelude::*;
use tempfile::TempDir;

const ROOM: u64 = 1 << 20;

fn layout() -> KvLayout {
    let tensor = KvTensor { heads: 1, head_size: 2, element: KvElement::F16 };
    KvLayout { tensors: vec![tensor; 2] }
}

fn model(name: u8) -> Fingerprint {
    Fingerprint::from_bytes([name; 32])
}

/// A text of `blocks` blocks and a bit, other for each `kind` from its first token on.
fn text(kind: TokenId, blocks: usize) -> Vec<TokenId> {
    (0..(blocks * KV_BLOCK + 10) as TokenId).map(|place| kind * 1000 + place % 700).collect()
}

/// Rows that no other block has.
fn block(tokens: &[TokenId], number: usize) -> KvBlock {
    let start = number * KV_BLOCK;
    let tokens = tokens[start..start + KV_BLOCK].to_vec();
    let row = |token: TokenId| (0..8).map(move |byte| (token as usize * 31 + number * 7 + byte) as u8);
    let data = tokens.iter().flat_map(|&token| row(token)).collect();
    KvBlock { start, tokens, layout: layout(), data }
}

struct Folder {
    folder: TempDir,
}

impl Folder {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("kv")
    }

    fn open(&self) -> Snapshots {
        self.open_with(ROOM)
    }

    fn open_with(&self, budget: u64) -> Snapshots {
        Snapshots::open(&self.path(), Some(budget)).expect("it opens")
    }

    /// Every block file.
    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> =
            all_files(&self.path()).into_iter().filter(|path| path.extension().is_some()).collect();
        files.sort();
        files
    }
}

fn all_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { all_files(&path) } else { vec![path] }).collect()
}

/// Saves every block of `tokens`; returns what came of each.
fn save(snapshots: &mut Snapshots, owner: &str, model: &Fingerprint, tokens: &[TokenId]) -> Vec<Saved> {
    snapshots.welcome(owner);
    let chain = snapshots.chain(model, tokens);
    (0..chain.blocks())
        .map(|number| snapshots.save(owner, &chain, number, &block(tokens, number)).expect("it is written"))
        .collect()
}

/// The blocks that come back for `prompt`, until one is in doubt.
fn load(snapshots: &mut Snapshots, model: &Fingerprint, prompt: &[TokenId]) -> (Vec<KvBlock>, Option<Doubt>) {
    let found = snapshots.find(model, prompt);
    let mut blocks = Vec::new();
    for number in 0..found.blocks() {
        match snapshots.read(&found, number, prompt, &layout()) {
            Ok(block) => blocks.push(block),
            Err(doubt) => return (blocks, Some(doubt)),
        }
    }
    (blocks, None)
}

#[test]
fn what_was_saved_comes_back_after_a_restart() {
    let folder = Folder::new();
    let tokens = text(1, 3);
    assert_eq!(save(&mut folder.open(), "a", &model(1), &tokens), [Saved::Written; 3]);
    let mut snapshots = folder.open();
    let (blocks, doubt) = load(&mut snapshots, &model(1), &tokens);
    assert_eq!(doubt, None);
    assert_eq!(blocks, [block(&tokens, 0), block(&tokens, 1), block(&tokens, 2)]);
    let usage = snapshots.usage();
    let on_disk: u64 = folder.files().iter().map(|file| file.metadata().expect("a file").len()).sum();
    assert_eq!((usage.blocks, usage.bytes), (3, on_disk));
}

#[test]
fn only_whole_blocks_of_the_same_beginning_are_found_and_one_token_is_always_left() {
    let folder = Folder::new();
    let mut snapshots = folder.open();
    let tokens = text(1, 2);
    save(&mut snapshots, "a", &model(1), &tokens);
    let found = |prompt: &[TokenId]| snapshots.find(&model(1), prompt).blocks();
    assert_eq!(found(&tokens), 2);
    assert_eq!(found(&tokens[..2 * KV_BLOCK]), 1, "the last token of the prompt must be run");
    assert_eq!(found(&tokens[..2 * KV_BLOCK + 1]), 2);
    assert_eq!(found(&tokens[..KV_BLOCK]), 0);
    assert_eq!(found(&[]), 0);
    let mut edited = tokens.clone();
    edited[KV_BLOCK + 3] += 1;
    assert_eq!(found(&edited), 1);
    edited[0] += 1;
    assert_eq!(found(&edited), 0, "the second block is another one behind another first");
}

#[test]
fn branches_and_conversations_with_the_same_beginning_share_files() {
    let folder = Folder::new();
    let mut snapshots = folder.open();
    let first = text(1, 3);
    let branch = [&first[..2 * KV_BLOCK], &text(2, 2)].concat();
    save(&mut snapshots, "a", &model(1), &first);
    let saved = save(&mut snapshots, "b", &model(1), &branch);
    assert_eq!(saved, [Saved::Shared, Saved::Shared, Saved::Written, Saved::Written]);
    assert_eq!(folder.files().len(), 5);
}

#[test]
fn forgetting_an_owner_destroys_exactly_what_nobody_else_owns() {
    for restarts in [false, true] {
        let folder = Folder::new();
        let mut snapshots = folder.open();
        let first = text(1, 3);
        let branch = [&first[..2 * KV_BLOCK], &text(2, 2)].concat();
        save(&mut snapshots, "a", &model(1), &first);
        save(&mut snapshots, "b", &model(1), &branch);
        if restarts {
            drop(snapshots);
            snapshots = folder.open();
        }
        let size = folder.files()[0].metadata().expect("a file").len();
        assert_eq!(snapshots.forget("a"), size, "one block is its own");
        assert_eq!(load(&mut snapshots, &model(1), &branch).0.len(), 4, "the branch has all of its blocks");
        assert_eq!(snapshots.forget("a"), 0, "it has none left");
        assert_eq!(snapshots.forget("b"), 4 * size);
        assert_eq!(folder.files(), Vec::<PathBuf>::new());
        assert_eq!(snapshots.usage().bytes, 0);
        assert_eq!(all_files(&folder.path().join("owners")), Vec::<PathBuf>::new());
    }
}

#[test]
fn nothing_is_saved_for_who_was_forgotten_until_they_ask_again() {
    let folder = Folder::new();
    let mut snapshots = folder.open();
    let tokens = text(1, 1);
    let chain = snapshots.chain(&model(1), &tokens);
    snapshots.forget("a");
    let saved = snapshots.save("a", &chain, 0, &block(&tokens, 0)).expect("no error");
    assert_eq!(saved, Saved::Unwanted);
    assert_eq!(folder.files(), Vec::<PathBuf>::new());
    assert_eq!(save(&mut snapshots, "a", &model(1), &tokens), [Saved::Written]);
}

/// The rows behind the whole blocks of `tokens`.
fn rest(tokens: &[TokenId]) -> KvBlock {
    let start = tokens.len() / KV_BLOCK * KV_BLOCK;
    let tokens = tokens[start..].to_vec();
    let data = tokens.iter().flat_map(|&token| [token as u8; 8]).collect();
    KvBlock { start, tokens, layout: layout(), data }
}

fn load_tail(snapshots: &mut Snapshots, owner: &str, prompt: &[TokenId]) -> Option<Result<KvBlock, Doubt>> {
    let found = snapshots.find(&model(1), prompt);
    let tail = snapshots.find_tail(&model(1), owner, &found, &layout())?;
    Some(snapshots.read_tail(&tail, &layout()))
}

#[test]
fn the_tail_of_a_conversation_is_its_own_and_goes_when_the_block_is_whole() {
    let folder = Folder::new();
    let mut snapshots = folder.open();
    let tokens = text(1, 2);
    save(&mut snapshots, "a", &model(1), &tokens);
    let chain = snapshots.chain(&model(1), &tokens);
    let saved = snapshots.save_tail("a", &model(1), &chain, &rest(&tokens)).expect("written");
    assert_eq!(saved, Saved::Written);
    drop(snapshots);
    let mut snapshots = folder.open();
    assert_eq!(load_tail(&mut snapshots, "a", &tokens), Some(Ok(rest(&tokens))));
    assert_eq!(load_tail(&mut snapshots, "b", &tokens), None);
    // In the place of the other.
    let longer = [&tokens[..], &[5; 20]].concat();
    snapshots.save_tail("a", &model(1), &chain, &rest(&longer)).expect("written");
    assert_eq!(
        load_tail(&mut snapshots, "a", &tokens),
        Some(Ok(rest(&longer))),
        "rewound by whoever uses it"
    );
    assert_eq!(folder.files().len(), 3);
    save(&mut snapshots, "a", &model(1), &[&tokens[..], &[5; 300]].concat());
    assert_eq!(load_tail(&mut snapshots, "a", &tokens), None);
    assert_eq!(folder.files().len(), 3, "three whole blocks");
    snapshots.forget("a");
    assert_eq!(folder.files(), Vec::<PathBuf>::new());
}

#[test]
fn a_damaged_tail_is_told_and_destroyed() {
    let folder = Folder::new();
    let mut snapshots = folder.open();
    let tokens = text(1, 0);
    let chain = snapshots.chain(&model(1), &tokens);
    snapshots.save_tail("a", &model(1), &chain, &rest(&tokens)).expect("written");
    let file = folder.files().remove(0);
    let kept = std::fs::read(&file).expect("read");
    for place in 0..kept.len() {
        for damaged in
            [[&kept[..place], &[kept[place] ^ 16], &kept[place + 1..]].concat(), kept[..place].to_vec()]
        {
            std::fs::write(&file, &damaged).expect("written");
            assert_eq!(load_tail(&mut snapshots, "a", &tokens), Some(Err(Doubt::Damaged)), "byte {place}");
            assert_eq!(load_tail(&mut snapshots, "a", &tokens), None);
            snapshots.save_tail("a", &model(1), &chain, &rest(&tokens)).expect("written");
        }
        std::fs::write(&file, &kept).expect("written");
    }
    assert_eq!(load_tail(&mut snapshots, "a", &tokens), Some(Ok(rest(&tokens))));
}

#[test]
fn freeing_all_leaves_no_block_and_says_how_many_bytes() {
    let folder = Folder::new();
    let mut snapshots = folder.open();
    save(&mut snapshots, "a", &model(1), &text(1, 2));
    save(&mut snapshots, "b", &model(2), &text(2, 2));
    let bytes = snapshots.usage().bytes;
    assert_eq!(snapshots.free_all(), bytes);
    assert_eq!(folder.files(), Vec::<PathBuf>::new());
    assert_eq!(snapshots.usage().blocks, 0);
    assert_eq!(save(&mut snapshots, "a", &model(1), &text(1, 2)), [Saved::Written; 2]);
}

#[test]
fn the_budget_holds_and_the_conversation_used_longest_ago_goes_from_its_end() {
    let folder = Folder::new();
    let size = {
        let mut snapshots = folder.open();
        save(&mut snapshots, "size", &model(1), &text(9, 1));
        snapshots.free_all()
    };
    let mut snapshots = folder.open_with(6 * size);
    save(&mut snapshots, "a", &model(1), &text(1, 3));
    save(&mut snapshots, "b", &model(1), &text(2, 3));
    // Used again, so that the other one is older.
    save(&mut snapshots, "a", &model(1), &text(1, 3));
    save(&mut snapshots, "c", &model(1), &text(3, 1));
    assert!(snapshots.usage().bytes <= 6 * size);
    assert_eq!(snapshots.find(&model(1), &text(1, 3)).blocks(), 3);
    let found = snapshots.find(&model(1), &text(2, 3));
    assert_eq!((found.blocks(), found.limit), (2, Some(ReuseLimit::Evicted)), "its last block went");
    drop(snapshots);
    // The order survives a restart.
    let mut snapshots = folder.open_with(6 * size);
    save(&mut snapshots, "d", &model(1), &text(4, 2));
    assert_eq!(snapshots.find(&model(1), &text(2, 3)).blocks(), 0);
    assert_eq!(snapshots.find(&model(1), &text(1, 3)).blocks(), 3);
    snapshots.set_budget(Some(2 * size));
    assert_eq!(snapshots.usage().bytes, 2 * size);
    let on_disk: u64 = folder.files().iter().map(|file| file.metadata().expect("a file").len()).sum();
    assert_eq!(on_disk, 2 * size);
}

#[test]
fn what_was_freed_in_the_middle_of_saving_is_not_saved_behind_a_hole() {
    let folder = Folder::new();
    let mut snapshots = folder.open();
    let tokens = text(1, 2);
    let chain = snapshots.chain(&model(1), &tokens);
    assert_eq!(snapshots.save("a", &chain, 0, &block(&tokens, 0)).expect("written"), Saved::Written);
    snapshots.free_all();
    assert_eq!(snapshots.save("a", &chain, 1, &block(&tokens, 1)).expect("no error"), Saved::Unwanted);
    let tail = snapshots.save_tail("a", &model(1), &chain, &rest(&tokens)).expect("no error");
    assert_eq!(tail, Saved::Unwanted);
    assert_eq!(folder.files(), Vec::<PathBuf>::new());
}

#[test]
fn a_clock_that_was_set_back_does_not_make_the_newest_the_first_to_go() {
    let folder = Folder::new();
    save(&mut folder.open(), "a", &model(1), &text(1, 1));
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(1_000_000);
    for file in folder.files() {
        let file = std::fs::File::options().append(true).open(file).expect("opened");
        file.set_modified(later).expect("set");
    }
    let size = folder.files()[0].metadata().expect("a file").len();
    let mut snapshots = folder.open_with(2 * size);
    save(&mut snapshots, "b", &model(1), &text(2, 1));
    save(&mut snapshots, "c", &model(1), &text(3, 1));
    let blocks = [1, 2, 3].map(|kind| snapshots.find(&model(1), &text(kind, 1)).blocks());
    assert_eq!(blocks, [0, 1, 1]);
}

#[test]
fn a_conversation_longer_than_the_budget_keeps_its_beginning() {
    let folder = Folder::new();
    let size = {
        let mut snapshots = folder.open();
        save(&mut snapshots, "size", &model(1), &text(9, 1));
        snapshots.free_all()
    };
    let mut snapshots = folder.open_with(2 * size + size / 2);
    save(&mut snapshots, "other", &model(1), &text(2, 1));
    let tokens = text(1, 4);
    let chain = snapshots.chain(&model(1), &tokens);
    let mut saved = Vec::new();
    for number in 0..chain.blocks() {
        saved.push(snapshots.save("a", &chain, number, &block(&tokens, number)).expect("no error"));
    }
    assert_eq!(saved, [Saved::Written, Saved::Written, Saved::NoRoom, Saved::NoRoom]);
    assert_eq!(snapshots.find(&model(1), &tokens).blocks(), 2);
}

#[cfg(unix)]
#[test]
fn only_the_user_can_read_any_of_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let mut snapshots = folder.open();
    save(&mut snapshots, "a", &model(1), &text(1, 2));
    let mode = |path: &Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&folder.path()), 0o700);
    for file in all_files(&folder.path()) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
        assert_eq!(mode(file.parent().expect("a folder")), 0o700);
    }
    assert!(all_files(&folder.path()).len() >= 5, "two blocks, their list, the key and the lock");
}

#[test]
fn another_model_or_layout_or_place_is_refused_with_its_reason() {
    let folder = Folder::new();
    let mut snapshots = folder.open();
    let (one, two) = (text(1, 2), text(2, 2));
    save(&mut snapshots, "a", &model(1), &one);
    let found = snapshots.find(&model(2), &one);
    assert_eq!((found.blocks(), found.limit), (0, Some(ReuseLimit::OtherModel)));
    assert_eq!(snapshots.find(&model(1), &two).limit, None, "nobody has ever read it");
    let found = snapshots.find(&model(1), &one);
    let mut other = layout();
    other.tensors.swap_remove(0);
    other.tensors[0].head_size *= 2;
    assert_eq!(snapshots.read(&found, 0, &one, &other), Err(Doubt::Damaged), "its header is shorter");
    assert_eq!(snapshots.usage().blocks, 1, "what is in doubt is destroyed");
    save(&mut snapshots, "a", &model(1), &one);
    save(&mut snapshots, "b", &model(2), &two);
    let halves = KvLayout { tensors: layout().tensors.into_iter().rev().map(turned).collect() };
    let found = snapshots.find(&model(1), &one);
    assert_eq!(snapshots.read(&found, 1, &one, &halves), Err(Doubt::OtherLayout));
    // The digest over what was asked for leads to the file, and its tokens are compared all the same.
    assert_eq!(snapshots.read(&found, 0, &two, &layout()), Err(Doubt::OtherTokens));
}

/// As many bytes in another order.
fn turned(tensor: KvTensor) -> KvTensor {
    KvTensor { heads: tensor.head_size, head_size: tensor.heads, ..tensor }
}

#[test]
fn files_that_changed_places_between_conversations_and_models_are_refused() {
    let folder = Folder::new();
    let (one, two) = (text(1, 2), text(2, 2));
    {
        let mut snapshots = folder.open();
        save(&mut snapshots, "a", &model(1), &one);
        save(&mut snapshots, "a", &model(2), &one);
        save(&mut snapshots, "b", &model(1), &two);
    }
    let files = folder.files();
    assert_eq!(files.len(), 6);
    let kept: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).expect("read")).collect();
    for turn in 1..files.len() {
        for (place, file) in files.iter().enumerate() {
            std::fs::write(file, &kept[(place + turn) % files.len()]).expect("written");
        }
        let mut snapshots = folder.open();
        for (model, tokens) in [(model(1), &one), (model(2), &one), (model(1), &two)] {
            let (blocks, doubt) = load(&mut snapshots, &model, tokens);
            assert!(blocks.is_empty(), "turned by {turn}");
            assert!(matches!(doubt, Some(Doubt::OtherModel | Doubt::OtherTokens)), "{doubt:?}");
        }
        assert_eq!(snapshots.usage().blocks, 3, "the first block of each was destroyed");
        drop(snapshots);
        for (file, bytes) in files.iter().zip(&kept) {
            std::fs::write(file, bytes).expect("written");
        }
        // Their owners still have them in their lists.
        let mut snapshots = folder.open();
        assert_eq!(load(&mut snapshots, &model(1), &one).0.len(), 2);
    }
}

#[test]
fn blocks_of_another_folder_are_none_of_this_one() {
    let (ours, theirs) = (Folder::new(), Folder::new());
    let tokens = text(1, 1);
    save(&mut ours.open(), "a", &model(1), &tokens);
    save(&mut theirs.open(), "a", &model(1), &tokens);
    let theirs = std::fs::read(&theirs.files()[0]).expect("read");
    std::fs::write(&ours.files()[0], theirs).expect("written");
    assert_eq!(load(&mut ours.open(), &model(1), &tokens).1, Some(Doubt::Damaged));
}

#[test]
fn twenty_thousand_bit_flips_and_truncations_never_give_another_block() {
    let folder = Folder::new();
    let tokens = text(1, 2);
    let mut snapshots = folder.open();
    save(&mut snapshots, "a", &model(1), &tokens);
    let files = folder.files();
    let kept: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).expect("read")).collect();
    let expected = [block(&tokens, 0), block(&tokens, 1)];
    let mut state = 20_260_101_u64;
    let mut next = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let mut damaged = 0;
    for round in 0..20_000 {
        let which = round % files.len();
        let mut bytes = kept[which].clone();
        match round % 10 {
            0 => bytes.truncate(next(bytes.len())),
            1 => bytes.extend_from_slice(&kept[which][..=next(64)]),
            _ => bytes[next(kept[which].len())] ^= 1 << next(8),
        }
        std::fs::write(&files[which], &bytes).expect("written");
        let (blocks, doubt) = load(&mut snapshots, &model(1), &tokens);
        assert_eq!(doubt, Some(Doubt::Damaged), "round {round}");
        assert_eq!(blocks.as_slice(), &expected[..blocks.len()], "round {round}");
        damaged += 1;
        assert!(snapshots.usage().blocks < 2, "round {round}: the damaged block is gone");
        // The next reply saves what is missing.
        save(&mut snapshots, "a", &model(1), &tokens);
        assert_eq!(snapshots.usage().blocks, 2);
    }
    assert_eq!(damaged, 20_000);
    assert_eq!(load(&mut snapshots, &model(1), &tokens).0, expected);
}

#[test]
fn a_lost_key_voids_the_blocks_and_damages_nothing() {
    for damage in [&b""[..], b"short", &[7; 33]] {
        let folder = Folder::new();
        let tokens = text(1, 2);
        save(&mut folder.open(), "a", &model(1), &tokens);
        std::fs::write(folder.path().join("key"), damage).expect("written");
        let mut snapshots = folder.open();
        assert_eq!(snapshots.find(&model(1), &tokens).blocks(), 0);
        assert_eq!(snapshots.usage().blocks, 0, "nobody could forget the old ones");
        assert_eq!(folder.files(), Vec::<PathBuf>::new());
        assert_eq!(save(&mut snapshots, "a", &model(1), &tokens), [Saved::Written; 2]);
        assert_eq!(load(&mut snapshots, &model(1), &tokens).0.len(), 2);
    }
}

#[test]
fn what_nobody_owns_or_finished_is_destroyed_at_the_next_start() {
    let folder = Folder::new();
    let tokens = text(1, 2);
    save(&mut folder.open(), "a", &model(1), &tokens);
    save(&mut folder.open(), "b", &model(1), &text(2, 1));
    let unfinished = folder.files()[0].with_file_name(".tmpAbCdEf");
    std::fs::write(&unfinished, b"half").expect("written");
    let lists = all_files(&folder.path().join("owners"));
    assert_eq!(lists.len(), 2);
    for list in &lists {
        let text = std::fs::read_to_string(list).expect("text");
        if text.lines().filter(|line| !line.is_empty()).count() == 1 {
            std::fs::write(list, "not a block\n\u{0}\n").expect("written");
        }
    }
    let mut snapshots = folder.open();
    assert!(!unfinished.exists());
    assert_eq!(snapshots.usage().blocks, 2, "the block whose list was damaged has no owner");
    assert_eq!(load(&mut snapshots, &model(1), &tokens).0.len(), 2);
}

#[test]
fn what_owners_have_who_are_not_named_is_destroyed() {
    for restarts in [false, true] {
        let folder = Folder::new();
        let mut snapshots = folder.open();
        let first = text(1, 3);
        let branch = [&first[..2 * KV_BLOCK], &text(2, 2)].concat();
        save(&mut snapshots, "a", &model(1), &first);
        save(&mut snapshots, "b", &model(1), &branch);
        save(&mut snapshots, "c", &model(1), &text(3, 1));
        if restarts {
            drop(snapshots);
            snapshots = folder.open();
        }
        let size = folder.files()[0].metadata().expect("a file").len();
        assert_eq!(snapshots.forget_all_except(&["b".into(), "unknown".into()]), 2 * size);
        assert_eq!(load(&mut snapshots, &model(1), &branch).0.len(), 4, "what is shared stays");
        assert_eq!(all_files(&folder.path().join("owners")).len(), 1);
        assert_eq!(snapshots.forget_all_except(&[]), 4 * size);
        assert_eq!(folder.files(), Vec::<PathBuf>::new());
    }
}

#[cfg(unix)]
#[test]
fn what_lies_behind_a_link_stays_and_is_none_of_the_blocks() {
    let folder = Folder::new();
    let tokens = text(1, 2);
    save(&mut folder.open(), "a", &model(1), &tokens);
    let elsewhere = tempfile::tempdir().expect("a folder");
    let (linked, moved) = (folder.path().join(model(1).to_string()), elsewhere.path().join("moved"));
    std::fs::rename(&linked, &moved).expect("moved");
    std::fs::write(moved.join("letter.txt"), b"dear").expect("written");
    std::os::unix::fs::symlink(&moved, &linked).expect("linked");
    let mut snapshots = folder.open();
    assert_eq!(snapshots.usage().blocks, 0);
    assert_eq!(all_files(&moved).len(), 3, "two blocks and the letter");
    assert_eq!(save(&mut snapshots, "a", &model(1), &tokens), [Saved::Written; 2]);
    assert_eq!(all_files(&moved).len(), 3, "nothing is written behind it either");
    assert_eq!(folder.files().len(), 2);
}

#[test]
fn the_default_budget_is_a_share_of_the_free_disk_and_never_nothing() {
    let budget = |disk: Disk| {
        let folder = Folder::new();
        Snapshots::open_on(disk, &folder.path(), None).expect("it opens").usage().budget_bytes
    };
    assert!(budget(Disk::default()) > 0);
    assert_eq!(budget(Disk::with_free(|_| Ok(20_000_000))), 1_000_000);
    let most = budget(Disk::with_free(|_| Ok(u64::MAX)));
    assert!((2_000_000_000..3_000_000_000).contains(&most), "{most}");
    assert_eq!(budget(Disk::with_free(|_| Err(std::io::ErrorKind::Unsupported.into()))), most);
}

#[test]
fn the_last_of_the_disk_is_left_to_the_conversations() {
    let folder = Folder::new();
    let free = Arc::new(AtomicU64::new(40 << 30));
    let tells = Arc::clone(&free);
    let disk = Disk::with_free(move |_| Ok(tells.load(Ordering::Relaxed)));
    let mut snapshots = Snapshots::open_on(disk, &folder.path(), None).expect("it opens");
    let (first, second) = (text(1, 2), text(2, 1));
    save(&mut snapshots, "a", &model(1), &first);
    free.store(100 << 20, Ordering::Relaxed);
    assert_eq!(save(&mut snapshots, "b", &model(1), &second), [Saved::NoRoom]);
    let chain = snapshots.chain(&model(1), &second);
    let tail = snapshots.save_tail("b", &model(1), &chain, &rest(&second)).expect("no error");
    assert_eq!(tail, Saved::NoRoom);
    assert_eq!(
        save(&mut snapshots, "b", &model(1), &first),
        [Saved::Shared; 2],
        "what is there takes nothing"
    );
    assert_eq!(load(&mut snapshots, &model(1), &first).0.len(), 2, "and nothing was evicted for it");
    free.store(40 << 30, Ordering::Relaxed);
    assert_eq!(save(&mut snapshots, "b", &model(1), &second), [Saved::Written]);
}

#[test]
fn a_second_program_is_told_that_the_folder_is_in_use() {
    let folder = Folder::new();
    let first = folder.open();
    let Err(error) = Snapshots::open(&folder.path(), None) else { panic!("two at once") };
    assert!(matches!(error, Error::DataFolder { full: false, .. }), "{error:?}");
    assert!(error.to_string().contains("another program"), "{error}");
    drop(first);
    folder.open();
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_that_names_it() {
    let folder = Folder::new();
    std::fs::write(folder.path(), b"a file is in the way").expect("written");
    let Err(error) = Snapshots::open(&folder.path(), None) else { panic!("it is a file") };
    assert!(error.to_string().contains(&*folder.path().to_string_lossy()), "{error}");
}

#[test]
fn a_disk_that_takes_no_more_is_an_error_and_what_is_there_stays() {
    let folder = Folder::new();
    let mut snapshots = folder.open();
    let tokens = text(1, 2);
    save(&mut snapshots, "a", &model(1), &tokens);
    // A file where the model's folder would be stands for every write that fails.
    std::fs::write(folder.path().join(model(2).to_string()), b"in the way").expect("written");
    let chain = snapshots.chain(&model(2), &tokens);
    let error = snapshots.save("a", &chain, 0, &block(&tokens, 0)).expect_err("it cannot be written");
    assert!(matches!(error, Error::DataFolder { .. }));
    assert_eq!(load(&mut snapshots, &model(1), &tokens).0.len(), 2);
    assert_eq!(snapshots.usage().blocks, 2);
}

/// What happens to a folder of snapshots.
#[derive(Debug, Clone)]
enum Step {
    Save { owner: u8, kind: TokenId, blocks: usize },
    Branch { owner: u8, kind: TokenId, kept: usize, other: TokenId },
    Forget { owner: u8 },
    Budget { blocks: u64 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3u8, 1..4 as TokenId, 1..4usize)
            .prop_map(|(owner, kind, blocks)| Step::Save { owner, kind, blocks }),
        2 => (0..3u8, 1..4 as TokenId, 1..3usize, 4..6 as TokenId)
            .prop_map(|(owner, kind, kept, other)| Step::Branch { owner, kind, kept, other }),
        1 => (0..3u8).prop_map(|owner| Step::Forget { owner }),
        1 => (0..8u64).prop_map(|blocks| Step::Budget { blocks }),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_budget_holds_and_only_true_blocks_come_back(steps in prop::collection::vec(step(), 1..25)) {
        let folder = Folder::new();
        let mut snapshots = folder.open();
        save(&mut snapshots, "size", &model(1), &text(9, 1));
        let size = snapshots.free_all();
        let mut budget = ROOM;
        for step in steps {
            match step {
                Step::Save { owner, kind, blocks } => {
                    let (owner, tokens) = (owner.to_string(), text(kind, blocks));
                    let saved = save(&mut snapshots, &owner, &model(1), &tokens);
                    if !saved.contains(&Saved::NoRoom) {
                        let chain = snapshots.chain(&model(1), &tokens);
                        snapshots.save_tail(&owner, &model(1), &chain, &rest(&tokens)).expect("no error");
                    }
                }
                Step::Branch { owner, kind, kept, other } => {
                    let tokens = [&text(kind, 3)[..kept * KV_BLOCK], &text(other, 1)].concat();
                    save(&mut snapshots, &owner.to_string(), &model(1), &tokens);
                }
                Step::Forget { owner } => {
                    let before = snapshots.usage().bytes;
                    let bytes = snapshots.forget(&owner.to_string());
                    prop_assert_eq!(snapshots.usage().bytes, before - bytes);
                }
                Step::Budget { blocks } => {
                    budget = blocks * size;
                    snapshots.set_budget(Some(budget));
                }
                Step::Restart => {
                    drop(snapshots);
                    snapshots = folder.open_with(budget);
                }
            }
            prop_assert!(snapshots.usage().bytes <= budget);
            let on_disk: u64 = folder.files().iter().map(|file| file.metadata().expect("a file").len()).sum();
            prop_assert_eq!(on_disk, snapshots.usage().bytes);
            for kind in 1..6 {
                let tokens = text(kind, 3);
                let (blocks, doubt) = load(&mut snapshots, &model(1), &tokens);
                prop_assert_eq!(doubt, None);
                for (number, found) in blocks.iter().enumerate() {
                    prop_assert_eq!(found, &block(&tokens, number));
                }
                let found = snapshots.find(&model(1), &tokens).blocks();
                for owner in 0..3 {
                    if let Some(tail) = load_tail(&mut snapshots, &owner.to_string(), &tokens) {
                        prop_assert_eq!(tail, Ok(rest(&text(kind, found))));
                    }
                }
            }
        }
        for owner in 0..3 {
            snapshots.forget(&owner.to_string());
        }
        prop_assert_eq!(folder.files(), Vec::<PathBuf>::new(), "everybody was forgotten");
    }
}
