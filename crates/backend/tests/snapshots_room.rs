//! What KV snapshots take of the disk: their budget, what goes first, and disks that give nothing.

#[path = "support/files.rs"]
mod files;
#[path = "support/snapshots.rs"]
mod snapshots;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use backend::snapshots::{Disk, Saved, Snapshots};
use backend::{Error, ReuseLimit};
use snapshots::{Folder, block, load, model, rest, save, text};

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
