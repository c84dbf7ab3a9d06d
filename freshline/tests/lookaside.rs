//! The code of `docs/lookaside.md`: what is between the marks compiles here, and stands on the page as it is.

use freshline::{Bytes, Client, Error, LoadError, ReadOptions};

const PAGE: &str = include_str!("../../docs/lookaside.md");

async fn render_profile(id: u64) -> Result<Option<Bytes>, Error> {
    std::future::ready(Ok(Some(Bytes::from(format!("profile {id}"))))).await
}

async fn read_it_myself() -> Result<Option<Bytes>, Error> {
    std::future::ready(Ok(None)).await
}

async fn by_the_client(client: &Client) -> Result<Option<Bytes>, LoadError<Error>> {
    // [page
    let page: Option<Bytes> = client.get_or_load("page:profile:42", || render_profile(42)).await?;
    // page]
    Ok(page)
}

#[rustfmt::skip] // as on the page
async fn by_hand(client: &Client, key: &str) -> Result<Option<Bytes>, Error> {
    // [page
    let answer = client.get_with(key, ReadOptions { look_aside: true, ..Default::default() }).await?;
    let value = match answer.token {
        None => answer.value,                       // a hit, or a negative entry
        Some(token) => {
            let value = read_it_myself().await?;    // only now: the token comes first
            client.set(key, value.clone(), &token, None).await?;
            value
        }
    };
    // page]
    Ok(value)
}

#[test]
fn what_the_page_shows_is_what_compiles_here() {
    // Of an application; nothing is asked here.
    let _ = (by_the_client, |client: Client| async move { by_hand(&client, "page:profile:42").await });
    let shown: Vec<&str> = include_str!("lookaside.rs").split("// [page\n").skip(1).collect();
    let shown = shown.iter().filter_map(|part| part.split_once("// page]"));
    let mut lines = 0;
    for line in shown.flat_map(|(code, _)| code.lines()).filter(|line| !line.trim().is_empty()) {
        let line = line.strip_prefix("    ").unwrap_or(line);
        assert!(PAGE.contains(&format!("\n{line}\n")), "not on the page: {line}");
        lines += 1;
    }
    assert_eq!(lines, 10);
}
