//! What the store synchronises with; with the feature `shuttle`, the same under a scheduler that tries interleavings.

#[cfg(not(feature = "shuttle"))]
pub(super) use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize};

#[cfg(not(feature = "shuttle"))]
pub(super) use parking_lot::RwLock;
#[cfg(feature = "shuttle")]
pub(super) use shuttle::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize};

#[cfg(feature = "shuttle")]
pub(super) use self::shuttled::RwLock;

#[cfg(feature = "shuttle")]
mod shuttled {
    use std::fmt;

    use shuttle::sync::{RwLockReadGuard, RwLockWriteGuard};

    /// A lock with the face of `parking_lot`'s.
    pub(in crate::store) struct RwLock<T>(shuttle::sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub(in crate::store) fn new(content: T) -> Self {
            Self(shuttle::sync::RwLock::new(content))
        }

        pub(in crate::store) fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner)
        }

        pub(in crate::store) fn write(&self) -> RwLockWriteGuard<'_, T> {
            self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner)
        }

        pub(in crate::store) fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
            self.0.try_write().ok()
        }
    }

    impl<T> fmt::Debug for RwLock<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("RwLock")
        }
    }
}
