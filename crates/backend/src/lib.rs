//! Hearth without a window.
