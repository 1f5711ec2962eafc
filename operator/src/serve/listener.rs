//! Where the pages are served: an address, or a socket of the file system.

use std::{
    fs::{self, Permissions},
    io::{Error, ErrorKind, Result},
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use axum::Router;
use common::settings::Place;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

/// Who may connect to a socket: its owner and group, such as those of a proxy.
const SOCKET_MODE: u32 = 0o660;

#[derive(Debug)]
pub(super) enum Listener {
    Address(TcpListener),
    Socket { listener: UnixListener, path: PathBuf },
}

impl Listener {
    pub(super) async fn bind(place: &Place) -> Result<Self> {
        match place {
            Place::Address(address) => TcpListener::bind(address).await.map(Self::Address),
            Place::Socket(path) => {
                remove_abandoned(path)?;
                let listener = UnixListener::bind(path)?;
                fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
                Ok(Self::Socket { listener, path: path.clone() })
            }
        }
    }

    /// Where it is in fact: port 0 has become one.
    pub(super) fn place(&self) -> Result<String> {
        match self {
            Self::Address(listener) => Ok(format!("http://{}/", listener.local_addr()?)),
            Self::Socket { path, .. } => Ok(format!("unix:{}", path.display())),
        }
    }

    /// Answers until `shutdown`, and finishes what was begun.
    pub(super) async fn serve(self, router: Router, shutdown: CancellationToken) -> Result<()> {
        match self {
            Self::Address(listener) => {
                axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
            }
            Self::Socket { listener, path } => {
                let _removed = Removed(path);
                axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
            }
        }
    }
}

/// Removes a socket at its end, also where the work is dropped.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A process that was killed leaves its socket behind. One that somebody answers on is left alone, and so is everything that is no socket.
fn remove_abandoned(path: &Path) -> Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(Error::new(ErrorKind::AlreadyExists, "something else that is no socket is there"));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(Error::new(ErrorKind::AddrInUse, "another process answers there")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_abandoned_socket_is_replaced_and_nothing_else() {
        let folder = std::env::temp_dir().join(format!("operator-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&folder).unwrap();
        let path = folder.join("socket");
        let place = Place::Socket(path.clone());
        let first = Listener::bind(&place).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, SOCKET_MODE);
        let taken = Listener::bind(&place).await.unwrap_err();
        assert_eq!(taken.to_string(), "another process answers there");
        // As `kill -9` leaves it.
        drop(first);
        assert!(path.exists());
        drop(Listener::bind(&place).await.unwrap());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "a file").unwrap();
        assert_eq!(Listener::bind(&place).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "a file");
        fs::remove_dir_all(&folder).unwrap();
    }
}
