//! Commands of the network: how requests leave, and with which token.

use backend::Backend;
use backend::hub::NetworkSettings;
use tauri::State;

use super::{Result, waiting};
use crate::ipc::{AccessToken, NetworkChoice, NetworkState, TokenPlace};

/// How requests leave, and the last ones that did.
#[tauri::command]
#[specta::specta]
pub(crate) async fn read_network(backend: State<'_, Backend>) -> Result<NetworkState> {
    waiting(&backend, |backend| Ok(NetworkState::read(backend))).await
}

/// Lets requests leave in another way, or none at all. Downloads under way follow.
#[tauri::command]
#[specta::specta]
pub(crate) async fn set_network(backend: State<'_, Backend>, choice: NetworkChoice) -> Result<()> {
    let given =
        |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let network = NetworkSettings {
        offline: choice.is_offline,
        mirror: given(choice.mirror),
        proxy: given(choice.proxy),
        catalog: given(choice.catalog),
        ..backend.models().network()
    };
    Ok(backend.set_network(network).await?)
}

/// What may be known of the hub's access token. Asks the keychain where one lies there.
#[tauri::command]
#[specta::specta]
pub(crate) async fn read_access_token(backend: State<'_, Backend>) -> Result<AccessToken> {
    Ok(backend.access_token().state().await.into())
}

/// Keeps what the user entered. It never comes back to the window.
#[tauri::command]
#[specta::specta]
pub(crate) async fn set_access_token(
    backend: State<'_, Backend>,
    text: String,
    place: TokenPlace,
) -> Result<AccessToken> {
    backend.access_token().set(&text, place.into()).await?;
    Ok(backend.access_token().state().await.into())
}

/// Forgets the access token, in the keychain too.
#[tauri::command]
#[specta::specta]
pub(crate) async fn remove_access_token(backend: State<'_, Backend>) -> Result<AccessToken> {
    backend.access_token().remove().await?;
    Ok(backend.access_token().state().await.into())
}
