//! KV snapshots at the border of their folder: found by tokens, shared, owned, and gone with their owners.

#[path = "support/files.rs"]
mod files;
#[path = "support/snapshots.rs"]
mod snapshots;

use std::path::{Path, PathBuf};

use backend::snapshots::Saved;
use engine::{KV_BLOCK, TokenId};
use files::files_below;
use proptest::prelude::*;
use snapshots::{Folder, ROOM, block, load, load_tail, model, rest, save, text};

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
        assert_eq!(files_below(&folder.path().join("owners")), Vec::<PathBuf>::new());
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

#[cfg(unix)]
#[test]
fn only_the_user_can_read_any_of_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let mut snapshots = folder.open();
    save(&mut snapshots, "a", &model(1), &text(1, 2));
    let mode = |path: &Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&folder.path()), 0o700);
    for file in files_below(&folder.path()) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
        assert_eq!(mode(file.parent().expect("a folder")), 0o700);
    }
    assert!(files_below(&folder.path()).len() >= 5, "two blocks, their list, the key and the lock");
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
        assert_eq!(files_below(&folder.path().join("owners")).len(), 1);
        assert_eq!(snapshots.forget_all_except(&[]), 4 * size);
        assert_eq!(folder.files(), Vec::<PathBuf>::new());
    }
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
